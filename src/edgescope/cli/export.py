"""``edgescope export``: records as files for other programs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from edgescope.cli.command import Command, NoDefault
from edgescope.cli.say import say
from edgescope.errors import RecordError


@dataclass(frozen=True)
class Export(Command):
    """Export the scalars of a run, or of every run in a folder, to files for other programs.

    Examples:
      edgescope export runs/a --to csv
      edgescope export runs/edge-quick --to parquet --out edge.parquet
      edgescope export runs/a --to csv --damaged
    """

    dir: Positional[Path]
    """folder of a run, or of several runs"""
    to: Annotated[Literal["parquet", "csv", "tensorboard"], arg(metavar="parquet|csv|tensorboard")]
    """one table in long format (parquet, csv), or event files for TensorBoard"""
    out: Annotated[Path | None, NoDefault] = None
    """output file or folder; by default export.parquet, export.csv or tensorboard in DIR"""
    damaged: Annotated[bool, NoDefault] = False
    """export the undamaged parts of damaged records, and say what is left out"""

    def run(self) -> int:
        from edgescope.store import export

        say(str(export(self.dir, self.to, self.out, damaged=self.damaged)))
        for run, state in self._not_ended():
            why = "its process has ended" if state == "abandoned" else "not finished yet"
            say(f"edgescope: run {run} is {state} ({why}); its readings so far were exported", file=sys.stderr)
        return 0

    def _not_ended(self) -> Iterator[tuple[str, str]]:
        from edgescope.store import Record
        from edgescope.store.runs_below import runs_below

        for run, place in runs_below(self.dir).items():
            with contextlib.suppress(RecordError), Record.open(place) as record:
                if record.state in ("running", "abandoned"):
                    yield run or str(self.dir), record.state
