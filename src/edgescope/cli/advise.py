"""``edgescope advise``: the written diagnosis of a run, or of several."""

from __future__ import annotations

import json
import shlex
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.padding import Padding
from rich.text import Text
from tyro.conf import Positional

from edgescope.cli.command import Command, Modules, NoDefault
from edgescope.cli.say import say
from edgescope.cli.terminal import Terminal
from edgescope.errors import RecordError

if TYPE_CHECKING:
    from edgescope.advice import Section
    from edgescope.store import Record

FOLDER = "advice"


@dataclass(frozen=True)
class Advise(Command):
    """Tell from records what regime a run is in, which learning rates are stable, and what to try.

    Of one run: its regime at the end and why, the critical learning rate and its range along the run, where other
    optimizers are unstable at this sharpness, and whether weight decay holds the network in a trap. Of several runs,
    such as a sweep: their regimes, the learning rate that tests best, and whether sharpness or norm go with the test
    loss. Nothing is trained or measured. The text and the figures are also written to DIR/advice/report.html.

    Examples:
      edgescope advise runs/a
      edgescope advise runs/sweep-mymodule-make_run --json
    """

    dir: Positional[Path]
    """folder of a run, of a sweep, or of several runs"""
    out: Annotated[Path | None, NoDefault] = None
    """output folder of the page; by default DIR/advice"""
    json: Annotated[bool, NoDefault] = False
    """print the diagnosis as JSON; no page is written"""
    module: Modules = ()

    def run(self) -> int:
        from edgescope.advice import advise_run, advise_runs, as_data
        from edgescope.printable import printable_names
        from edgescope.store import Record
        from edgescope.store.runs_below import runs_below

        if not self.dir.is_dir():
            raise RecordError(f"there is no folder {self.dir}", expected="the folder of a run, or of several runs")
        below = runs_below(self.dir)
        if not below:
            raise RecordError(f"{self.dir} contains no record", expected="the folder of a run, or of several runs")
        names = printable_names(name or self.dir.resolve().name for name in below)
        with ExitStack() as stack:
            records = {
                name: stack.enter_context(Record.open(place)) for name, place in zip(names, below.values(), strict=True)
            }
            only = records[names[0]]
            sections = advise_run(only) if len(records) == 1 else advise_runs(records)
            if self.json:
                say(json.dumps(as_data(sections)))
                return 0
            show_sections(sections)
            say(f"report: {_write_page(self.dir, self.out or self.dir / FOLDER, records, sections)}")
        return 0


def show_sections(sections: tuple[Section, ...]) -> None:
    """Print each question and its answer."""
    console = Terminal()
    for section in sections:
        console.print(section.question, style="bold", markup=False)
        for reason in section.reasons:
            console.print(Padding(Text(f"{reason.sentence.rstrip('.')}."), (0, 0, 0, 2)))
        console.print()


def _write_page(folder: Path, out: Path, records: dict[str, Record], sections: tuple[Section, ...]) -> Path:
    """The sections with the figures of the runs, as a report."""
    from edgescope.report import write_report
    from edgescope.report.run_report import run_figures
    from edgescope.report.run_report.pages import gather
    from edgescope.report.run_report.rows import total_cost, versions_of

    gathered = gather({name: record.folder for name, record in records.items()})
    drawn = {name: records[name] for name in gathered.drawn}
    return write_report(
        out,
        title="Diagnosis of a training run" if len(records) == 1 else f"Diagnosis of {len(records)} training runs",
        abstract="\n\n".join(f"{section.question} {section.text}" for section in sections),
        paper="",
        findings=None,
        figures=list(run_figures(drawn, gathered.table, arrays=False)),
        runs=gathered.rows,
        cost=total_cost(gathered.rows),
        versions=versions_of(next(iter(records.values()))),
        command=f"edgescope advise {shlex.quote(str(folder))}",
        notes=gathered.notes,
    )
