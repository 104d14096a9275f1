"""``edgescope report``: the report of a study or of runs, written again from their records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from edgescope.cli.command import Command, Modules, NoDefault
from edgescope.cli.say import say
from edgescope.cli.terminal import Terminal
from edgescope.collector import collector_paused
from edgescope.errors import RecordError


@dataclass(frozen=True)
class Report(Command):
    """Write report.html and its figures as PNG, SVG and PDF; for a study also the verdicts and findings.json.

    The report is made from existing records. Nothing is trained or measured.

    Examples:
      edgescope report runs/edge-quick
      edgescope report runs/a --out reports/a
    """

    dir: Positional[Path]
    """folder of a study, of a sweep, of one run, or of several runs"""
    out: Annotated[Path | None, NoDefault] = None
    """output folder; by default DIR"""
    module: Modules = ()

    def run(self) -> int:
        with collector_paused():
            from edgescope.cli.sweep_folder import sweep_in
            from edgescope.cli.sweep_report import report_sweep
            from edgescope.report import verdict_table
            from edgescope.report.run_report import report_runs
            from edgescope.studies import STUDIES, describe, report_study

        if not self.dir.is_dir():
            raise RecordError(f"there is no folder {self.dir}", expected="the folder of a study, or of a run")
        described = describe(self.dir)
        if described is None and sweep_in(self.dir) is not None:
            report_sweep(self.dir, self.out)
            return 0
        if described is None:
            say(str(report_runs(self.dir, self.out)))
            return 0
        findings, report = report_study(STUDIES.build(described["study"]), self.dir, out=self.out)
        Terminal().print(verdict_table(findings))
        say(str(report))
        return 0
