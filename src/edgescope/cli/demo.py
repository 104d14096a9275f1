"""``edgescope demo``: the main job, without make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from edgescope.cli.command import Command, NoDefault


@dataclass(frozen=True)
class Demo(Command):
    """Train networks on real images at the edge of stability and write the report, runs/demo/report.html.

    The same as 'edgescope run edge --preset quick --out runs/demo --resume', and as 'make demo' after set-up. It takes
    minutes; after Ctrl-C it goes on where it was.

    Examples:
      edgescope demo
      python -m edgescope demo --jobs 1
    """

    out: Path = Path("runs/demo")
    """output folder for runs and report"""
    jobs: Annotated[int | None, NoDefault] = None
    """number of runs at the same time; by default the number of cores"""

    def run(self) -> int:
        from edgescope.cli.run import Run

        return Run("edge", preset="quick", out=self.out, jobs=self.jobs, resume=True).run()
