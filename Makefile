# Two commands do everything on a fresh machine with Python 3.11+, make and a package index: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LAB := transfer-learning
# processes start by the hundred, and compiled files are there to be used again
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all release solution bundle style lint clean

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -e ".[grader,docs,cluster,study]" --group dev
	touch $@

demo: $(BIN)/.installed  ## release, sample submissions, nbgrader autograde, feedback, table of the class
	$(BIN)/python -m tests.demo_class $(LAB)

# more processes than a small machine has cores: tests also wait, for limits to run out and for processes to end; files in
# the order of their names, as the last ones have short tests
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder
# mypy uses one core: the tests start while it runs
WITH_TYPES = $(BIN)/python -m mypy & types=$$!; $(1); tests=$$?; wait $$types && exit $$tests

test: $(BIN)/.installed style  ## tests of everything, a sample of each kind
	$(call WITH_TYPES,$(PYTEST))

test-all: $(BIN)/.installed style  ## with every attack, archive, style, mutant and interruption: about an hour
	$(call WITH_TYPES,$(PYTEST) -m "")

style: $(BIN)/.installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

lint: style
	$(BIN)/python -m mypy

release: $(BIN)/.installed  ## master text -> notebook and release
	$(BIN)/autograder build $(LAB)

solution: $(BIN)/.installed  ## runs the solution with all experiments (about ten minutes)
	$(BIN)/autograder build $(LAB) --execute $(if $(DATA),--data $(DATA))

bundle: $(BIN)/.installed  ## what students get: dist/<lab>-student.zip
	$(BIN)/autograder bundle $(LAB)

clean:
	rm -rf demo build dist .graded
