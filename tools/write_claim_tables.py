"""Write the tables of claims in the pages of the documentation anew, from the claims in the code.

Run it from the root of the checkout after changing a claim: ``.venv/bin/python tools/write_claim_tables.py``.
"""

from __future__ import annotations

from pathlib import Path

from edgescope.studies import STUDIES
from edgescope.studies.claim_table import with_table

PAGES = Path(__file__).parents[1] / "docs"


def main() -> None:
    for page in sorted(PAGES.glob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = before
        for name in STUDIES.names():
            after = with_table(after, STUDIES.build(name))
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(page.name)


if __name__ == "__main__":
    main()
