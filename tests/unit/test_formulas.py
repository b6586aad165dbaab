"""Formulas in texts of submissions become MathML, and nothing else."""

from __future__ import annotations

from collections import Counter

import nbformat
import pytest
from bs4 import BeautifulSoup

from amllab.lab import all_labs, find_lab
from autograder.notebooks.formulas import in_text, mathml
from autograder.notebooks.safe_html import from_latex, from_markdown
from tests.conftest import ROOT
from tests.helpers.hostile_html import ACT, active

HOSTILE = [
    rf"\text{{<img src=x onerror={ACT}>}}",
    r"\text{</mtext></math><script>alert(1)</script>}",
    rf"\text{{<style><!--</style><img title='--><img src=x onerror={ACT}>'>}}",
    rf"\mbox{{<svg onload={ACT}>}}",
    r"\href{javascript:alert(1)}{x}",
    r"\style{position:fixed}{x}",
    r"\class{score}{x}",
    r"\cssId{check_accuracy}{x}",
    r"\color{red;background:url(//example.org)}{x}",
    r"\textcolor{expression(alert(1))}{x}",
    rf"\operatorname{{<img src=x onerror={ACT}>}}",
    rf"<img src=x onerror={ACT}>",
    r"\begin{array}{<script>}x\end{array}",
    r"\rule{1px\" onload=alert(1)}{1px}",
    "\\text{\ue000script\ue001alert(1)\ue000/script\ue001}",
    r"\unicode{60}script",
    r"\sqrt[<script>]{x}",
    r"\overset{<a href=javascript:alert(1)>}{x}",
]


@pytest.mark.parametrize("tex", HOSTILE)
@pytest.mark.parametrize(
    "form", ["${}$", "$$\n{}\n$$", "# a ${}$ b", "![${}$](x)", "[${}$](https://example.org)", "| ${}$ |\n|---|"]
)
def test_formulas_not_active(tex: str, form: str) -> None:
    """Nothing in a formula becomes active, wherever the formula is."""
    assert active(from_markdown(form.replace("{}", tex), {})) == Counter()
    assert active(from_latex(form.replace("{}", tex))) == Counter()


@pytest.mark.parametrize(
    ("tex", "shown"),
    [
        (r"x<y", "x<y"),
        (r"\text{a<b & c}", "a<b\N{NO-BREAK SPACE}&\N{NO-BREAK SPACE}c"),
        (r"\frac{a}{b}", "ab"),
        (r"\mathbb{R}^{n\times d}", "ℝn×d"),
        (r"\begin{cases}1&x>0\\0&\text{otherwise}\end{cases}", "{1x>00otherwise"),
        (r"\operatorname{sim}(u, v)", "sim(u,v)"),
        (r"\begin{align*}a&=b\\c&=d\end{align*}", "a=bc=d"),
    ],
)
def test_formulas_keep_content(tex: str, shown: str) -> None:
    """A formula shows what it says, as MathML."""
    found = BeautifulSoup(mathml(tex), "html.parser")
    assert found.math is not None
    assert found.get_text() == shown


@pytest.mark.parametrize("tex", [r"\frac{a}", r"\left(", r"}", "\ue000", r"\begin{foo}"])
def test_formulas_that_cannot_be_converted(tex: str) -> None:
    """A formula with an error is shown in some way, and raises nothing."""
    assert BeautifulSoup(mathml(tex), "html.parser").get_text().strip()


def test_formulas_of_every_lab() -> None:
    """Every formula of the released notebooks is MathML."""
    found = 0
    for name in all_labs():
        lab = find_lab(name.replace("_", "-"))
        release = nbformat.read(ROOT / "assignments" / lab.assignment / f"{lab.notebook}.ipynb", 4)
        for cell in release.cells:
            if cell.cell_type == "markdown" and "$" in cell.source:
                page = from_markdown(cell.source, {})
                found += page.count("<math")
                assert "$" not in BeautifulSoup(page, "html.parser").get_text(), cell.source
    assert found > 50


@pytest.mark.parametrize(
    ("source", "formulas", "items"),
    [
        ("so $a\n- b$ is", 1, 0),
        ("costs $5\n- and $6", 0, 1),
        ("`a $x\n- y` and $z$", 1, 1),
        ("```\n$a\n- b$\n```", 0, 0),
        ("$a\n\n- b$", 0, 1),
        ("a \\$b\n- c$ d", 0, 1),
    ],
)
def test_formulas_of_several_lines(source: str, formulas: int, items: int) -> None:
    """A line of a formula that begins with a minus is no list; a list with prices is no formula."""
    page = BeautifulSoup(from_markdown(source, {}), "html.parser")
    assert (len(page.select("math")), len(page.select("li"))) == (formulas, items)


def test_outputs_with_formulas() -> None:
    """Text around the formulas of an output stays, and is escaped."""
    made = in_text(r"<b> $\displaystyle x^2$ and \begin{equation}y\end{equation} costs 5")
    assert made.startswith("&lt;b&gt; <math")
    assert made.count("<math") == 2
    assert made.endswith("costs 5")
