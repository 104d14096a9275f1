"""``edgescope report``: the report of a study, or of runs, written anew from their records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from edgescope.cli.command import Command, Modules
from edgescope.errors import RecordError


@dataclass(frozen=True)
class Report(Command):
    """Write report.html and the figures as PNG, SVG and PDF; for a study its verdicts and findings.json too.

    DIR is the folder of a study, of a sweep, of one run, or one that holds several runs. Nothing is trained or
    measured.

    Examples:
      edgescope report runs/edge-quick
      edgescope report runs/a
    """

    dir: Positional[Path]
    """the folder of a study, of a sweep, of a run, or of several runs"""
    module: Modules = ()

    def run(self) -> int:
        from edgescope.cli.run_report import report_runs
        from edgescope.cli.sweep import sweep_in
        from edgescope.cli.sweep_report import report_sweep
        from edgescope.report import verdict_table
        from edgescope.studies import STUDIES
        from edgescope.studies.study import describe, report_study

        if not self.dir.is_dir():
            raise RecordError(f"there is no folder {self.dir}", expected="the folder of a study, or of a run")
        described = describe(self.dir)
        if described is None and sweep_in(self.dir) is not None:
            report_sweep(self.dir)
            return 0
        if described is None:
            print(report_runs(self.dir))
            return 0
        findings, report = report_study(STUDIES.build(described["study"]), self.dir)
        Console(highlight=False).print(verdict_table(findings))
        print(report)
        return 0
