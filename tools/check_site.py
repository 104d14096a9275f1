"""Check that no page of the documentation site loads anything from elsewhere: ``python tools/check_site.py site``.

Links that a reader may follow are allowed; scripts, style sheets, fonts, images and frames must come with the site.
Exit code 1, with one line for each fault.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

FOLLOWED = {"a", "area"}
"""Elements whose address is only loaded where the reader asks for it."""
PASSIVE = {"canonical", "license", "author", "next", "prev"}
"""Relations of a <link> that browsers do not load."""
REMOTE = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])\s*((?:https?:)?//[^'")\s]+)""", re.IGNORECASE)


class _Loads(HTMLParser):
    """The addresses that a page loads on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in FOLLOWED or (tag == "link" and given.get("rel", "") in PASSIVE):
            return
        addresses = [given.get(name, "") for name in ("src", "href", "data", "poster", "srcset")]
        self.found += [address for address in addresses if REMOTE.match(address)]
        self.found += IN_STYLE.findall(given.get("style", ""))


def loads(path: Path) -> list[str]:
    """The addresses elsewhere that a page or a style sheet loads on its own."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        return IN_STYLE.findall(text)
    parser = _Loads()
    parser.feed(text)
    styles = "".join(re.findall(r"<style.*?</style>", text, re.DOTALL))
    return parser.found + IN_STYLE.findall(styles)


def main(site: Path) -> int:
    pages = sorted([*site.rglob("*.html"), *site.rglob("*.css")])
    faults = [f"{page}: loads {address}" for page in pages for address in loads(page)]
    print("\n".join(faults) or f"{len(pages)} files, none loads anything from elsewhere")
    return 1 if faults or not pages else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
