"""Lines that the commands print, in which names from elsewhere can do nothing."""

from __future__ import annotations

from typing import IO

from edgescope.printable import printable


def say(*lines: str, file: IO[str] | None = None) -> None:
    """Print each of ``lines`` as one line, by default on stdout, whatever names are in it."""
    for line in lines:
        print(printable(line), file=file)
