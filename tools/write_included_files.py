"""Write the programs in docs/extend into the pages of the documentation that show them.

A line with the path of a program in backticks and a colon, such as ``extend/lp_norm.py``, stands before the block that
shows it. Run this from the root of the checkout after changing a program: ``.venv/bin/python
tools/write_included_files.py``.
"""

from __future__ import annotations

import re
from pathlib import Path

PAGES = Path(__file__).parents[1] / "docs"
INCLUDED = re.compile(r"^`(extend/\w+\.py)`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def with_files(text: str) -> str:
    """The text of a page with every included program as it is now."""

    def shown(match: re.Match[str]) -> str:
        path = match[1]
        return f"`{path}`:\n\n```python\n{(PAGES / path).read_text(encoding='utf-8')}```"

    return INCLUDED.sub(shown, text)


def main() -> None:
    for page in sorted(PAGES.glob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = with_files(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(page.name)


if __name__ == "__main__":
    main()
