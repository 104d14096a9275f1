"""Write what ``edgescope list`` shows without loading torch, from the registries of the package.

Run it from the root of the checkout after adding or changing something that can be chosen by name, or its options:
``.venv/bin/python tools/write_listing.py``. With ``--print`` the text is printed, and no file is written.
"""

from __future__ import annotations

import sys

from edgescope.cli.listing import FILE, REGISTRIES, as_file, read_registry


def main() -> None:
    text = as_file({kind: read_registry(kind) for kind in REGISTRIES})
    if "--print" in sys.argv[1:]:
        sys.stdout.buffer.write(text.encode())
    elif not FILE.exists() or FILE.read_text(encoding="utf-8") != text:
        FILE.write_text(text, encoding="utf-8")
        print(FILE.name)


if __name__ == "__main__":
    main()
