"""Texts that attack their readers, and a search for active content in pages."""

from __future__ import annotations

import base64
import re
from collections import Counter

from bs4 import BeautifulSoup, Tag

ACT = "document.title='PWNED'"

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 30).decode()

# each has a text that must stay readable, and acts as soon as it is opened, pointed at or clicked
HOSTILE_HTML = [
    f"<script>{ACT}</script>text-0",
    f'<img src="x" onerror="{ACT}">text-1',
    f'<svg onload="{ACT}"><script>{ACT}</script></svg>text-2',
    '<a href="javascript:alert(1)">text-3</a>',
    '<a href=" jAvA&#x09;script:alert(1)">text-4</a>',
    '<a href="data:text/html;base64,PHNjcmlwdD4=">text-5</a>',
    f'<iframe srcdoc="<script>parent.{ACT}</script>"></iframe>text-6',
    '<meta http-equiv="refresh" content="0;url=https://example.org/">text-7',
    '<base href="https://example.org/">text-8',
    '<div style="position:fixed;top:0;left:0;width:100%;height:100%;background:url(https://example.org/)">text-9</div>',
    '<style>* { display: none }</style><link rel="stylesheet" href="https://example.org/x.css">text-10',
    '<form action="https://example.org/"><input name="x" autofocus onfocus="alert(1)"><button>text-11</button></form>',
    '<img src="https://example.org/pixel.png">text-12',
    f"</div></div></body></html><script>{ACT}</script>text-13",
    f'<noscript><p title="</noscript><img src=x onerror={ACT}>"></noscript>text-14',
    f'<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=x onerror={ACT}&gt;">text-15',
    f'<details open ontoggle="{ACT}"><summary>text-16</summary></details>',
    '<p class="score full-credit modal" id="check_freeze_layers">text-17</p>',
    '<div style="margin-top:-2000px;opacity:0.5;behavior:url(x);width:expression(alert(1))">text-18</div>',
    '<object data="https://example.org/x.swf"></object><embed src="x.svg">text-19',
    f"<textarea></textarea><title></title><xmp></xmp><script/src=x>{ACT}</script>text-20",
    '<img src="data:image/svg+xml;base64,PHN2Zz4=" usemap="#x">text-21',
    '<a href="//example.org/">text-22</a> <a href="../../logout">text</a>',
    f'<video src="x" onerror="{ACT}" autoplay></video><audio src="x" onerror="{ACT}"></audio>text-23',
    "{{ resources.base_url }}{% raw %}text-24",
    "<template><script>1</script></template><slot></slot>text-25",
    "<a href='https://example.org' ping='https://example.org/ping' target='_top'>text-26</a>",
    "\\(\\href{javascript:alert(1)}{x}\\) $\\style{position:fixed}{x}$ $\\cssId{check_accuracy}{x}$ text-27",
]
HOSTILE_MARKDOWN = [
    "[link](javascript:alert(1)) text-40",
    "![x](javascript:alert(1)) [ref]: javascript:alert(1) text-41",
    '![x](https://example.org/pixel.png "title") text-42',
    f"```mermaid\n<img src=x onerror={ACT}>\n```\n\ntext-43",
    f'```"><img/src=x/onerror={ACT}>\ncode\n```\n\ntext-44',
    "$\\href{javascript:alert(1)}{x}$ and $$\\require{x} \\class{score}{x}$$ text-45",
    f'![" onerror="{ACT}](x) text-46',
    f"# <img src=x onerror={ACT}> text-47",
    "![x](attachment:missing.png) text-48",
    "![x](attachment:evil.svg) text-49",
    '<javascript:alert(1)> <https://example.org/"onclick=alert(1)> text-50',
    f"| a |\n|---|\n| <script>{ACT}</script> |\n\ntext-51",
    f"\\begin{{x}}<img src=x onerror={ACT}>\\end{{x}} text-52",
]


FINE_URL = re.compile(r"https?://|mailto:|#|data:image/(png|jpeg|gif);base64,[A-Za-z0-9+/=]+$|/formgrader/")
ELEMENTS = (
    "script style iframe frame object embed form input button textarea select meta base link svg math video audio"
)
ELEMENTS += " template title portal applet marquee dialog"
BAD_STYLE = re.compile(r"position|url|expression|behavior|z-index|transform|float|-\d|@import|\\", re.I)
GRADING_CLASSES = {"score", "comment", "full-credit", "no-credit", "mark-graded", "modal", "navbar", "nbgrader_cell"}


# elements and attributes of formulas that have no effect beyond the formula
MATH = """
math menclose mfrac mi mmultiscripts mn mo mover mpadded mphantom mroot mrow mspace msqrt mstyle msub msubsup msup
mtable mtd mtext mtr munder munderover
"""
MATH_ATTRIBUTES = "columnalign display displaystyle fence form linethickness mathvariant notation stretchy"


def is_inert_formula(element: Tag) -> bool:
    """Return whether a formula contains nothing but presentation."""
    parts = [element, *element.find_all(True)]
    return all(part.name in MATH.split() and part.attrs.keys() <= set(MATH_ATTRIBUTES.split()) for part in parts)


def active(html: str) -> Counter[str]:
    """Count everything in a page that can act, load, cover other things, or be taken for a part of the page."""
    found: Counter[str] = Counter()
    for element in BeautifulSoup(html, "html.parser").find_all(True):
        if element.name in ELEMENTS.split() and not (element.name == "math" and is_inert_formula(element)):
            found[f"{element.name} {element.get_text()[:80] if element.name != 'textarea' else ''}"] += 1
        classes = set(element.get("class") or [])
        found.update(f"class {name}" for name in classes & GRADING_CLASSES)
        for name, value in element.attrs.items():
            text = value if isinstance(value, str) else " ".join(value)
            if name.startswith("on") or name in (
                "srcdoc",
                "action",
                "formaction",
                "ping",
                "target",
                "usemap",
                "srcset",
            ):
                found[f"{element.name} {name}={text}"] += 1
            if name in ("href", "src", "data", "background", "poster") and not FINE_URL.match(text):
                found[f"{element.name} {name}={text}"] += 1
            if name == "src" and element.name == "img" and text.startswith("http"):
                found[f"{element.name} {name}={text}"] += 1
            if name == "style" and BAD_STYLE.search(text):
                found[f"{element.name} {name}={text}"] += 1
            if name == "id" and not text.startswith(("nb-", "cell-id=")):
                found[f"id {text}"] += 1
    return found
