"""What the documentation site adds to its pages: the files of the root, formulas as MathML, links between names.

A hook of MkDocs, which `make docs` runs. Formulas become MathML while the site is built, so that no page loads a script
to draw them, and a formula that cannot be read is an error of the build.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import latex2mathml.converter
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
FROM_ROOT = {
    "README.md": "index.md",
    **{name: name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")},
}
"""Files of the root that are pages of the site, under these names."""

LINK = re.compile(r"(\]\()([^)#\s]*)(#[^)]*)?(\))")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
ROLE = re.compile(r":(?:class|func|meth|attr|data|mod):<code>~?([^<]*)</code>")


def github_anchor(text: str, separator: str = "-") -> str:
    """The anchor of a heading as GitHub makes it, so that links lead to the same place there and on the site."""
    return re.sub(r"[^\w\- ]", "", html.unescape(re.sub(r"<[^>]*>", "", text)).lower()).strip().replace(" ", separator)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are files of the root."""
    for name, page in FROM_ROOT.items():
        text = LINK.sub(_from_root, (ROOT / name).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "CITATION.cff", content=(ROOT / "CITATION.cff").read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files of the root lead to their pages."""
    return LINK.sub(_to_root, markdown) if page.file.src_uri not in FROM_ROOT.values() else markdown


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Formulas as MathML, names in docstrings as code."""
    return ROLE.sub(r"<code>\1</code>", FORMULA.sub(lambda found: mathml(found, page.file.src_uri), content))


def mathml(found: re.Match[str], page: str) -> str:
    """One formula as MathML; raises ValueError for one that cannot be read."""
    kind, text = ("inline" if found[2] == "(" else "block"), html.unescape(found[3]).strip()
    try:
        made = latex2mathml.converter.convert(text, display=kind)
    except Exception as error:
        raise ValueError(f"{page}: the formula {text!r} cannot be read: {error!r}") from error
    if "\\" in made:  # a command that it does not know, which it leaves as it is
        raise ValueError(f"{page}: the formula {text!r} has a command that is not known")
    return made.replace("<mo>&#x0002F;</mo>", '<mo lspace="0" rspace="0">&#x0002F;</mo>')  # a fraction in a line


def _from_root(found: re.Match[str]) -> str:
    target = found[2].removeprefix("docs/")
    target = FROM_ROOT.get(target, target)
    return f"{found[1]}{target}{found[3] or ''}{found[4]}"


def _to_root(found: re.Match[str]) -> str:
    target = found[2]
    if target.startswith("../") and (name := target.removeprefix("../")) in FROM_ROOT:
        target = FROM_ROOT[name]
    return f"{found[1]}{target}{found[3] or ''}{found[4]}"
