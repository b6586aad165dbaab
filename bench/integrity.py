"""Compare what each attack earns here and on stock nbgrader, with checks in the notebook: ``python -m bench.integrity``

The attacks are those of ``tests/security/hostile``. The stock course is the same release; its four check cells
contain checks of the same contract as asserts, the harder ones between ``### BEGIN HIDDEN TESTS`` and ``### END
HIDDEN TESTS``, and its configuration is nbgrader's default. Both are graded with ``nbgrader autograde``, each in a
temporary course full of canaries. Attacks that would harm the machine refuse to act if they are not isolated from it;
the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

import nbformat
from tqdm import tqdm

from autograder.checks.transfer_learning.corpus import FREEZE, TRAIN
from autograder.labs.corpus import Solution
from tests.conftest import ASSIGNMENT, NOTEBOOK, new_course, submit
from tests.helpers.notebooks import notebook_of
from tests.security.hostile.attack_base import FULL, GROUPS, Attack, Surroundings, cell_of
from tests.security.hostile.attacks import ATTACKS
from tests.security.hostile.hostile_traces import Ears, marked_files, marked_processes, snapshot

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "integrity.json"
LIMITS = {"cell_seconds": 20, "answer_seconds": 45, "total_seconds": 150}
STOCK_SECONDS = 30  # nbgrader's default
SUBMISSION_SECONDS = 300  # in total; one attack on stock nbgrader would take nearly an hour
REFUSED = "REFUSED:"

STOCK_CONFIG = """
c = get_config()
c.CourseDirectory.root = {root!r}
c.CourseDirectory.release_directory = "assignments"
c.ClearMarkScheme.enforce_metadata = False
c.Execute.timeout = {seconds}
"""

# The contract of each exercise as an instructor would write it into a notebook.
STOCK_CHECKS = {
    "check_freeze_layers": """
model = load_backbone("net6")
assert freeze_layers(model, 2) is model, "freeze_layers works in place"
assert sum(p.requires_grad for p in model.parameters()) < len(list(model.parameters())), "some layers are frozen"
### BEGIN HIDDEN TESTS
@REFERENCE@
for n in (0, 1, 3, 6, 2):
    wanted = [name for name, p in _reference_freeze(load_backbone("net6"), n).named_parameters() if p.requires_grad]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    freeze_layers(model, n)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == wanted, "the last layers are trainable"
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items()), "no weight changes"
for n in (-1, 7):
    try:
        freeze_layers(model, n)
    except ValueError:
        pass
    else:
        assert False, "ValueError for impossible numbers"
### END HIDDEN TESTS
""".replace("@REFERENCE@", FREEZE.replace("freeze_layers", "_reference_freeze").strip()),
    "check_build_transfer_model": """
model = build_transfer_model("net6", 5, 1)
assert tuple(model(torch.randn(2, 3, 32, 32)).shape) == (2, 5), "a head with num_classes outputs"
### BEGIN HIDDEN TESTS
_wanted = load_backbone("net6").state_dict()
_seen = build_transfer_model("net6", 10, 1).state_dict()
for name, value in _wanted.items():
    assert torch.equal(_seen[name], value) == (not name.startswith("head.fc")), "pretrained weights, a fresh head"
_twin = build_transfer_model("net6", 5, 1)
with torch.no_grad():
    for p in _twin.parameters():
        p.add_(1)
assert all(torch.equal(model.state_dict()[k], v) for k, v in _wanted.items() if "head.fc" not in k), "nothing shared"
try:
    build_transfer_model("net6", 1, 1)
except ValueError:
    pass
else:
    assert False, "ValueError for one class"
### END HIDDEN TESTS
""",
    "check_train_with_early_stopping": """
torch.manual_seed(0)
batches = [(torch.randn(8, 4), torch.randint(3, (8,))) for _ in range(3)]
history = train_with_early_stopping(nn.Linear(4, 3), batches, batches, max_epochs=3, patience=3)
assert len(history["val_loss"]) == 3, "one value for each epoch"
### BEGIN HIDDEN TESTS
@REFERENCE@
for _patience, _delta in ((1, 0.0), (2, 0.0), (2, 0.05)):
    for _lr in (1e-2, 0.7):
        _models, _histories = [], []
        for _function in (_reference_train, train_with_early_stopping):
            torch.manual_seed(1)
            _models.append(nn.Linear(4, 3))
            _arguments = {"max_epochs": 12, "patience": _patience, "min_delta": _delta, "lr": _lr}
            _histories.append(_function(_models[-1], batches[:2], batches[2:], **_arguments))
        assert _histories[0]["best_epoch"] == _histories[1]["best_epoch"], "the best epoch"
        assert len(_histories[0]["val_loss"]) == len(_histories[1]["val_loss"]), "stops after patience"
        _best = min(_histories[1]["val_loss"])
        assert abs(evaluate(_models[1], batches[2:])["loss"] - _histories[1]["val_loss"][_histories[1]["best_epoch"]]) < 1e-4
try:
    train_with_early_stopping(nn.Linear(4, 3), batches, batches, max_epochs=0)
except ValueError:
    pass
else:
    assert False, "ValueError for max_epochs=0"
### END HIDDEN TESTS
""".replace("@REFERENCE@", TRAIN.replace("train_with_early_stopping", "_reference_train").strip()),
    "check_accuracy": """
from amllab.synthetic_images import draw
from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD
### BEGIN HIDDEN TESTS
_data = draw(450, seed=20240917)
_images = ((_data.images / 255 - torch.tensor(CIFAR10_MEAN).view(3, 1, 1)) / torch.tensor(CIFAR10_STD).view(3, 1, 1))
_batches = list(zip(_images[:300].split(50), _data.labels[:300].split(50)))
torch.manual_seed(0)
_model = build_transfer_model("net12", 5, 4)
train_with_early_stopping(_model, _batches, _batches[:1], max_epochs=2, patience=2)
_model.eval()
with torch.no_grad():
    _accuracy = (_model(_images[300:]).argmax(1) == _data.labels[300:]).float().mean().item()
assert _accuracy >= 0.25, "the model recognises reptiles"
### END HIDDEN TESTS
""",
}


@dataclass
class Outcome:
    """What an attack earned and did.

    Attributes:
        points: points out of 90; ``None`` if it was not graded.
        harm: what else happened: secrets read, files and gradebook changed, connections, processes left, batch stopped.
        seconds: wall time of grading it.
    """

    points: float | None
    harm: list[str] = field(default_factory=list)
    seconds: float = 0.0


def stock_course(folder: Path) -> Path:
    """Create a course as described in nbgrader's documentation, with the checks inside the notebook."""
    from autograder.authoring.build import notebook_of as built

    folder.mkdir()
    (folder / "nbgrader_config.py").write_text(STOCK_CONFIG.format(root=str(folder), seconds=STOCK_SECONDS))
    source = folder / "source" / ASSIGNMENT
    source.mkdir(parents=True)
    notebook = built(ROOT / "source" / ASSIGNMENT / "transfer_learning.py")
    for grade_id, text in STOCK_CHECKS.items():
        cell_of(notebook, grade_id).source = text.strip()
    # the experiments take minutes: in a stock course, students would leave them out of their submission
    notebook.cells = [cell for cell in notebook.cells if "experiment" not in cell.metadata.get("tags", [])]
    nbformat.write(notebook, source / NOTEBOOK)
    done = command(folder, "generate_assignment", ASSIGNMENT)
    if done.returncode:
        raise RuntimeError(done.stderr)
    shutil.copytree(ROOT / "solutions", folder / "solutions")
    return folder


def command(
    course: Path, *arguments: str, seconds: float | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "AMLLAB_PROGRESS": "0", "AMLLAB_DATA": "drawn", **variables}
    # stock nbgrader starts alembic and the kernel by name
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    call = [sys.executable, "-m", "nbgrader", *arguments]
    return subprocess.run(
        call, cwd=course, env=environment, capture_output=True, text=True, check=False, timeout=seconds
    )


def play(attacks: list[Attack], template: Path, base: Path, *, stock: bool) -> dict[str, Outcome]:
    """Grade attacks, followed by an honest student, in a copy of a course; inspect what is left.

    Harm that cannot be attributed to one attack (files, connections, processes) counts for all that were graded
    together.
    """
    marker = f"amlb{secrets.token_hex(5)}"
    place = Path(tempfile.mkdtemp(dir=base))
    course, home = place / "course", place / "home"
    shutil.copytree(template, course)
    config = (course / "nbgrader_config.py").read_text().replace(repr(str(template)), repr(str(course)))
    (course / "nbgrader_config.py").write_text(config)
    home.mkdir()
    canaries = [f"{marker}-canary-{place}" for place in ("file", "home", "environment")]
    (course / "secret.txt").write_text(canaries[0])
    (home / ".netrc").write_text(f"machine example.org login ta password {canaries[1]}\n")
    ears = Ears(marker, home)
    release = nbformat.read(course / "assignments" / ASSIGNMENT / NOTEBOOK, as_version=4)
    surroundings = Surroundings(course, home, ears.tcp, ears.udp, marker)
    for attack in attacks:
        submit(course, attack.name, attack.submit(release, surroundings, stock=stock))
    freeze = Solution("x", sources={"build_transfer_model": "", "train_with_early_stopping": ""})
    submit(course, "zz_honest", notebook_of(freeze, release))
    before = snapshot(course, home)
    began = time.perf_counter()
    try:
        secret = {"HOME": str(home), "COURSE_SECRET": canaries[2]}
        seconds_in_all = SUBMISSION_SECONDS * len(attacks)
        status = command(course, "autograde", ASSIGNMENT, seconds=seconds_in_all, **secret).returncode
    except subprocess.TimeoutExpired:
        status = -1
    seconds = time.perf_counter() - began
    points = scores(course)
    after = snapshot(course, home)
    common = []
    if any(after.get(path) != kept for path, kept in before.items()) or marked_files(marker, place):
        common.append("wrote outside of its folder")
    if ears.heard:
        common.append("connected to the outside")
    if marked_processes(marker):
        common.append("still runs")
    if any_manual(course):
        common.append("changed the gradebook")
    if points.get("zz_honest") != 20:
        common.append("cost an honest student points")
    if status not in (0, 1):
        common.append("stopped the batch" if status != -1 else f"held up the others for {SUBMISSION_SECONDS} s")
    outcomes = {}
    for attack in attacks:
        text = "".join(path.read_text() for path in course.glob(f"autograded/{attack.name}/*/*.ipynb"))
        shown = printed(course, attack.name)
        harm = [f"read the canary of the {c.rsplit('-', 1)[1]}" for c in canaries if c in text]
        if "LOOT" in shown:
            harm.append("printed answers or secrets")
        if REFUSED in shown:
            harm.append("refused by itself: not shut off from the machine")
        outcomes[attack.name] = Outcome(points.get(attack.name), harm + common, round(seconds / len(attacks), 1))
    ears.close()
    shutil.rmtree(place, ignore_errors=True)
    return outcomes


def printed(course: Path, student: str) -> str:
    """Return what the cells of a submission printed."""
    texts = []
    for path in course.glob(f"autograded/{student}/*/*.ipynb"):
        for cell in json.loads(path.read_text()).get("cells", []):
            texts += ["".join(o["text"]) for o in cell.get("outputs", []) if o.get("output_type") == "stream"]
    return "\n".join(texts)


def _rows(course: Path, query: str) -> list[tuple]:
    with sqlite3.connect(course / "gradebook.db") as db:
        return db.execute(query).fetchall()


def scores(course: Path) -> dict[str, float]:
    """Return the automatic points of each graded student in the four check cells."""
    query = """
        SELECT submitted_assignment.student_id, SUM(grade.auto_score)
        FROM grade
        JOIN submitted_notebook ON grade.notebook_id = submitted_notebook.id
        JOIN submitted_assignment ON submitted_notebook.assignment_id = submitted_assignment.id
        GROUP BY submitted_assignment.student_id
    """
    return {student: points for student, points in _rows(course, query) if points is not None}


def any_manual(course: Path) -> bool:
    return bool(_rows(course, "SELECT 1 FROM grade WHERE manual_score IS NOT NULL LIMIT 1"))


def text_of(outcome: dict | None) -> str:
    if outcome is None:
        return "–"
    points = "not graded" if outcome["points"] is None else f"{outcome['points']:g}"
    return "; ".join([points, *outcome["harm"]])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="*", help="names of attacks, or of groups")
    parser.add_argument("--list", action="store_true", help="print all attacks, and do nothing")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--where", choices=("stock", "here"), help="play the attacks only there")
    args = parser.parse_args()
    if args.list:
        for attack in ATTACKS:
            print(f"{attack.group:28} {attack.name:28} {attack.what}")
        print(f"{len(ATTACKS)} attacks:", ", ".join(f"{Counter(a.group for a in ATTACKS)[g]} {g}" for g in GROUPS))
        return
    chosen = [a for a in ATTACKS if not args.only or a.name in args.only or a.group in args.only]
    unknown = set(args.only or ()) - {name for a in ATTACKS for name in (a.name, a.group)}
    if unknown:
        parser.error(f"no such attack or group: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="integrity-") as folder:
        base = Path(folder)
        stock = stock_course(base / "stock")
        (base / "here").mkdir()
        here = new_course(base / "here")
        with (here / "nbgrader_config.py").open("a") as config:
            config.write(f"\nc.GradeChecks.limits = {LIMITS!r}\n")
        # on stock nbgrader each attack has a separate course: otherwise the first would affect the others
        tasks = [([a], stock, True) for a in chosen if a.only in ("", "stock")]
        tasks = [] if args.where == "here" else tasks
        isolated = [] if args.where == "stock" else [a for a in chosen if a.only in ("", "here")]
        tasks += [(part, here, False) for i in range(args.jobs) if (part := isolated[i :: args.jobs])]
        rows: list[dict] = []
        with ThreadPoolExecutor(args.jobs) as pool:
            work = [pool.submit(play, part, template, base, stock=stock) for part, template, stock in tasks]
            for done in tqdm(as_completed(work), total=len(work), disable=None):
                stock = tasks[work.index(done)][2]
                rows = merged({(name, "stock" if stock else "here"): o for name, o in done.result().items()})
    print_table(rows, {a.name for a in chosen})
    print(f"\nall that was measured: {RESULTS.relative_to(ROOT)}")


def merged(found: dict[tuple[str, str], Outcome]) -> list[dict]:
    """Merge outcomes into the stored results, so that a run that ends early loses nothing; return all rows."""
    stored = json.loads(RESULTS.read_text())["attacks"] if RESULTS.is_file() else []
    rows = {row["name"]: row for row in stored}
    for a in ATTACKS:
        row = {"name": a.name, "group": a.group, "what": a.what, "worth": sum(a.points().values())}
        known = {where: rows.get(a.name, {}).get(where) for where in ("stock", "here")}
        fresh = {where: asdict(found[a.name, where]) for where in known if (a.name, where) in found}
        rows[a.name] = row | known | fresh
    result = [rows[a.name] for a in ATTACKS if rows[a.name]["stock"] or rows[a.name]["here"]]
    text = json.dumps({"totals": totals(result), "attacks": result}, indent=1, ensure_ascii=False)
    RESULTS.write_text(text + "\n")
    return result


def totals(rows: list[dict]) -> dict[str, dict[str, int]]:
    """For stock nbgrader and here, count all attacks, those that earned too much, and those that did harm."""
    result = {}
    for where in ("stock", "here"):
        played = [(row["worth"], row[where]) for row in rows if row[where]]
        result[where] = {
            "played": len(played),
            "earned more than its worth": sum(o["points"] is not None and not o["points"] <= w for w, o in played),
            "did harm": sum(any(not h.startswith("refused") for h in o["harm"]) for _, o in played),
        }
    return result


def print_table(rows: list[dict], names: set[str]) -> None:
    """Print the rows of this run, and the totals of all runs."""
    print(f"Points of {sum(FULL.values()):g}, and what else happened.\n")
    print("| attack | worth | stock nbgrader | here |\n|---|---|---|---|")
    for group in GROUPS:
        members = [row for row in rows if row["group"] == group and row["name"] in names]
        if members:
            print(f"| **{group}** | | | |")
        for row in members:
            print(
                f"| {row['name']}: {row['what']} | {row['worth']:g} | {text_of(row['stock'])} | {text_of(row['here'])} |"
            )
    for where, counts in totals(rows).items():
        print(f"\n{where}: " + ", ".join(f"{number} {what}" for what, number in counts.items()))


if __name__ == "__main__":
    main()
