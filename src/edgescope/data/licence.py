"""A text that is packed with Edgescope, for language models without a download."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgescope.data.text import Text

PACKED = Path(__file__).parent / "files" / "apache-2.0.txt"


@dataclass(frozen=True)
class Licence(Text):
    """The characters of the Apache License 2.0, under which Edgescope is distributed: 11,358 of them, as ``text`` does.

    Small and repetitive English, for runs that need no more.
    """

    path: str = str(PACKED)
