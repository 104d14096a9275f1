"""``edgescope doctor``: every check of a model, its loss, its data and its optimizer, and the cost of each measure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional, arg

from edgescope.cli.command import Command, Modules, NoDefault
from edgescope.cli.say import say
from edgescope.cli.terminal import Terminal
from edgescope.options import check_float, check_seed

if TYPE_CHECKING:
    from edgescope.tuning.problem_report import CheckRow, ProblemReport

UNUSABLE: Final = 3
"""Exit code where model, loss or data cannot be measured."""

STYLES: Final = {"refused": "bold red", "caution": "yellow", "handled": "cyan", "not checked": "dim"}


@dataclass(frozen=True)
class Doctor(Command):
    """Check a model, its loss, its data and its optimizer at once, and forecast time and memory of each measure.

    FUNCTION returns (model, loss_fn, data), as for 'edgescope sweep'. Every check is a row: ok; handled, where care is
    needed and taken; caution, where figures may not mean what one expects; refused, with what to do. A fault does not
    end the others. Times follow from one timed gradient, within a factor of 2 or so.

    Exit code: 0 if model, loss and data can be measured; 3 if they cannot; 2 for input that cannot be used.

    Examples:
      edgescope doctor mymodule:make_run
      edgescope doctor mymodule:make_run --optimizer adamw --lr 1e-3 --measures sharpness ratio --json
    """

    function: Annotated[Positional[str], arg(metavar="MODULE:FUNCTION")]
    """function without arguments that returns (model, loss_fn, data)"""
    optimizer: Annotated[str | None, NoDefault] = None
    """optimizer by name with options, such as adam or sgd:momentum=0.9"""
    lr: float = 0.01
    """learning rate of the optimizer, for its threshold"""
    measures: Annotated[tuple[str, ...], NoDefault] = ()
    """measures to forecast; by default all"""
    seed: int = 0
    """random seed with which FUNCTION is called"""
    json: Annotated[bool, NoDefault] = False
    """print the result as JSON"""
    module: Modules = ()

    def run(self) -> int:
        from edgescope.allocator import keep_freed_memory
        from edgescope.measures import MEASURES
        from edgescope.optim.pairs import one_optimizer
        from edgescope.training.own import made_by
        from edgescope.tuning.doctor import doctor

        check_float("doctor", "--lr", self.lr, above=0)
        check_seed("doctor", self.seed, "--seed")
        named = None if self.optimizer is None else one_optimizer(self.optimizer)
        measures = [MEASURES.build(name) for name in self.measures or MEASURES.names()]
        keep_freed_memory()
        made = made_by(self.function, self.seed)
        optimizer = None if named is None else lambda parameters: named.build(parameters, lr=self.lr)
        report = doctor(made.model, made.loss_fn, made.data, optimizer=optimizer, measures=measures)
        if self.json:
            say(json.dumps({"function": self.function} | report.as_dict()))
        else:
            _show(report)
        return 0 if report.usable else UNUSABLE


def _show(report: ProblemReport) -> None:
    console = Terminal()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "check", "result", "found"):
        table.add_column(heading, overflow="fold")
    area = ""
    for row in sorted(report.rows, key=lambda row: ("model", "data", "loss", "optimizer").index(row.area)):
        if area and row.area != area:
            table.add_section()
        shown = "" if row.area == area else row.area
        area = row.area
        table.add_row(shown, row.check, row.status, _words(row), style=STYLES.get(row.status))
    console.print(table)
    if not report.measures:
        say("nothing can be measured before the refused checks are mended")
        return
    say(_forecast_line(report))
    console.print(_forecasts(report))
    for words, names in _conditions(report).items():
        console.print(Padding(Text(f"{', '.join(names)}: {words}"), (0, 0, 0, 1)))


def _words(row: CheckRow) -> str:
    """What was found, and what to try."""
    if not row.remedy:
        return row.finding
    return f"{row.finding}; {'' if row.remedy.startswith('expected') else 'try '}{row.remedy}"


def _forecast_line(report: ProblemReport) -> str:
    seconds = _seconds(report.gradient_seconds)
    return (
        f"{report.parameters:,} parameters, {report.samples:,} samples, mode {report.mode}; one gradient takes"
        f" {seconds}. Each measure alone, along a run and at its first reading:"
    )


def _forecasts(report: ProblemReport) -> Table:
    from edgescope.memory import readable

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("measure", "gradients", "a reading", "the first", "memory"):
        table.add_column(heading, justify="left" if heading == "measure" else "right", no_wrap=True)
    for row in report.measures:
        figures = ("–", "–", "–", "–")
        if row.status != "refused":
            times = (_seconds(row.seconds), _seconds(row.first_seconds))
            figures = (f"{row.gradients:.2g}", *times, readable(row.bytes))
        table.add_row(row.measure, *figures)
    return table


def _conditions(report: ProblemReport) -> dict[str, list[str]]:
    """Why measures are refused, or have a value only along a run: each reason with the measures that share it."""
    found: dict[str, list[str]] = {}
    for row in report.measures:
        if row.status != "ok":
            remedy = f"; try {row.remedy}" if row.remedy else ""
            found.setdefault(f"{row.status}, since {row.finding}{remedy}", []).append(row.measure)
    return found


def _seconds(value: float) -> str:
    """In milliseconds or seconds."""
    return f"{1000 * value:.2g} ms" if value < 0.1 else f"{value:.2g} s"
