"""``edgescope verify``: check records and checkpoints for damage."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from edgescope.cli.command import Command, NoDefault
from edgescope.cli.failure import REFUSED
from edgescope.cli.say import say
from edgescope.errors import RecordError


@dataclass(frozen=True)
class Verify(Command):
    """Check all records and checkpoints in a folder and its subfolders for damage, without writing anything.

    For each damaged file, one line says what is wrong and what can still be used; the last line is a summary. The exit
    code is 2 if any file is damaged. Read-only file systems and runs in progress can be checked too.

    Examples:
      edgescope verify runs
      edgescope verify runs/edge-quick --json
    """

    dir: Positional[Path]
    """folder of a run, or of several runs"""
    json: Annotated[bool, NoDefault] = False
    """print the result as JSON, with a list of all files"""

    def run(self) -> int:
        from edgescope.store.verify import verify

        found = list(verify(self.dir))
        if not found:
            raise RecordError(f"{self.dir} contains no record and no checkpoint", expected="the folder of a run")
        damaged = [one for one in found if one.verdict == "damaged"]
        if self.json:
            files = [asdict(one) | {"path": str(one.path)} for one in found]
            print(json.dumps({"files": files, "damaged": len(damaged)}, indent=2))
        else:
            for one in damaged:
                wrong = one.wrong if str(one.path) in one.wrong else f"{one.path}: {one.wrong}"
                say(f"{wrong}; can still be used: {one.used}")
            unchecked = sum(one.verdict == "unchecked" for one in found)
            say(_counts(Counter(one.kind for one in found), len(damaged), unchecked))
        return REFUSED if damaged else 0


def _counts(kinds: Counter[str], damaged: int, unchecked: int) -> str:
    looked_at = " and ".join(f"{kinds[kind]} {kind}{'s' * (kinds[kind] != 1)}" for kind in ("record", "checkpoint"))
    words = [f"{damaged} damaged" if damaged else "none damaged"]
    if unchecked:
        words.append(f"{unchecked} written by an earlier version, without digests to check them by")
    return f"{looked_at}: {', '.join(words)}"
