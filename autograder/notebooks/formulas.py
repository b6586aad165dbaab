"""Formulas as MathML, which browsers show without scripts and without the network.

A formula is converted in the process that renders texts. What cannot be converted is shown as TeX.
"""

from __future__ import annotations

import html
import re
import secrets

import nh3

_TAGS = """
math menclose mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts mroot mrow ms mspace msqrt mstyle msub
msubsup msup mtable mtd mtext mtr munder munderover none
"""
_ATTRIBUTES = """
accent accentunder columnalign columnspan display displaystyle fence form largeop linethickness mathvariant
movablelimits notation rowspan separator stretchy symmetric
"""
# the converter copies the text of these commands into its output as it is
_WORDS = re.compile(r"\\(?:text|textrm|textit|textbf|textsf|texttt|mbox|hbox)\s*\{([^{}]*)\}")
_MASKED = {"<": "\ue000", ">": "\ue001", "&": "\ue002"}
_BETWEEN = re.compile(
    r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$]+?)\$|\\\[(?P<display>.+?)\\\]|\\\((?P<round>.+?)\\\)"
    r"|(?P<environment>\\begin\{(?P<name>[a-z]+\*?)\}.*?\\end\{(?P=name)\})",
    re.S,
)


def mathml(tex: str, *, block: bool = False) -> str:
    """Convert a formula to MathML, or show it as code if that is impossible.

    Args:
        tex: The formula, without delimiters.
        block: Whether it is displayed on a line of its own.
    """
    from latex2mathml.converter import convert

    if any(mask in tex for mask in _MASKED.values()):
        return _as_code(tex)
    try:
        masked = _WORDS.sub(lambda found: _masked(found[0]), tex)
        made = convert(masked, display="block" if block else "inline")
    except Exception:  # the converter raises many kinds of errors for TeX that it does not know
        return _as_code(tex)
    for character, mask in _MASKED.items():
        made = made.replace(mask, html.escape(character))
    # href, style, class and id come from TeX, too
    clean = nh3.clean(
        made,
        tags=set(_TAGS.split()),
        attributes={"*": set(_ATTRIBUTES.split())},
        clean_content_tags={"script", "style"},
    )
    return clean if clean.startswith("<math") else _as_code(tex)


def in_text(text: str) -> str:
    """Convert a text with formulas between delimiters, such as an output of SymPy."""
    parts, end = [], 0
    for found in _BETWEEN.finditer(text):
        inline = found["inline"] or found["round"]
        formula = inline or found["block"] or found["display"] or found["environment"]
        parts += [html.escape(text[end : found.start()]), mathml(formula, block=inline is None)]
        end = found.end()
    return "".join([*parts, html.escape(text[end:])])


class Formulas:
    """Formulas of one text, which are put into its HTML after that was cleaned.

    A cleaner of HTML cannot keep MathML safely, because text changes its meaning in it. So a placeholder goes through
    the cleaner. Its name is not predictable, and it is replaced only where it is an element, never in an attribute.
    """

    def __init__(self) -> None:
        self._name = secrets.token_hex(12)
        self._found: list[tuple[str, bool]] = []

    def placeholder(self, tex: str, *, block: bool = False) -> str:
        """Return the placeholder of a formula."""
        self._found.append((tex, block))
        return f'<ins title="{self._name}-{len(self._found) - 1}">{html.escape(tex)}</ins>'

    def put_into(self, clean: str) -> str:
        """Replace the placeholders in cleaned HTML."""
        pattern = re.compile(rf'<ins title="{self._name}-(\d+)">[^<]*</ins>')
        return pattern.sub(lambda match: self._formula(int(match[1])), clean)

    def _formula(self, number: int) -> str:
        tex, block = self._found[number]
        return mathml(tex, block=block)


def _masked(text: str) -> str:
    for character, mask in _MASKED.items():
        text = text.replace(character, mask)
    return text


def _as_code(tex: str) -> str:
    return f"<code>{html.escape(tex)}</code>"
