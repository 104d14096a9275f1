"""``edgescope export``: records as files that other programs read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from edgescope.cli.command import Command, NoDefault


@dataclass(frozen=True)
class Export(Command):
    """Write the scalars of a run, or of every run in a folder, for other programs.

    Examples:
      edgescope export runs/a --to csv
      edgescope export runs/edge-quick --to parquet --out edge.parquet
    """

    dir: Positional[Path]
    """the folder of a run, or one that holds several"""
    to: Annotated[Literal["parquet", "csv", "tensorboard"], arg(metavar="parquet|csv|tensorboard")]
    """one long table (parquet, csv), or event files for TensorBoard"""
    out: Annotated[Path | None, NoDefault] = None
    """where to; by default into DIR, as export.parquet, export.csv or tensorboard"""

    def run(self) -> int:
        from edgescope.store import export

        print(export(self.dir, self.to, self.out))
        return 0
