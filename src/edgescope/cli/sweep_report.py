"""What a sweep over learning rates found: the critical rate, the regimes, the best test loss; in words and a report."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import polars as pl
from rich import box
from rich.table import Table

from edgescope.cli.say import say
from edgescope.cli.terminal import Terminal
from edgescope.errors import InputError, RecordError
from edgescope.figures import Figure, tradeoff_panels
from edgescope.printable import printable_names
from edgescope.report import write_report
from edgescope.report.numbers import number
from edgescope.report.run_report import run_figures
from edgescope.report.run_report.pages import gather
from edgescope.report.run_report.rows import total_cost, versions_of
from edgescope.report.run_report.scalars import followed
from edgescope.store import Record
from edgescope.training import End, FlowEnd, tradeoff_table

FLOW = "flow"
CUT_OFF = " *"
NEARLY = 1.01
"""Times the least test loss that counts as nearly as good: a rate then may be chosen for the steps that it takes."""

SAME_START = 1e-3
"""Relative difference of the losses at the start that rounding over threads and devices explains."""


def report_sweep(folder: Path, out: Path | None = None) -> Path:
    """Print what the sweep in ``folder`` found and write its report there, or into ``out``, from its records alone.

    Raises :class:`RecordError` where no rate left a record.
    """
    with ExitStack() as stack:
        paths = sorted(path.parent for path in (folder / "runs").glob("*/record.sqlite"))
        names = printable_names(path.name for path in paths)
        records = {name: stack.enter_context(Record.open(path)) for name, path in zip(names, paths, strict=True)}
        ended = {name: r for name, r in records.items() if r.status in ("finished", "diverged")}
        descents = {name: record for name, record in ended.items() if name != FLOW}
        if not descents:
            raise RecordError(f"no run of the sweep in {folder} has ended", hint="--resume to continue it")
        flow, why = _flow(ended.get(FLOW))
        table = tradeoff_table(map(End.of, descents.values()), None if flow is None else flow.critical_lr)
        missed = table.filter(~pl.col("reached") & ~pl.col("diverged")).height
        cut_off = [f"* {missed} of {table.height} runs did not reach the stop loss within their number of steps."]
        found, doubts = _findings(table, flow, why), _doubts(ended, flow)
        words = [*(cut_off if missed else []), *_task(descents), *found, *doubts, *_together(ended)]
        console = Terminal()
        console.print(rate_table(table, flow))
        for line in words:
            say(line)
        gathered = gather({name: record.folder for name, record in records.items()})
        drawn = {name: records[name] for name in gathered.drawn}
        report = write_report(
            out or folder,
            title="The norm–sharpness trade-off across learning rates",
            abstract=" ".join(line[:1].upper() + line[1:] for line in words),
            paper="Matveev, Fojtik, Chou, Kutyniok, Maly (2025), arXiv 2505.21423",
            findings=None,
            figures=[*_pictures(table, flow), *run_figures(drawn, followed(gathered.table), arrays=False)],
            runs=gathered.rows,
            cost=total_cost(gathered.rows),
            versions=versions_of(next(iter(records.values()))),
            command=next(iter(descents.values())).info.get("command") or f"edgescope report {shlex.quote(str(folder))}",
            notes=gathered.notes,
        )
    say(f"report: {report}")
    return report


def rate_table(table: pl.DataFrame, flow: FlowEnd | None) -> Table:
    """One line a rate: where its run ended, and its regime. Fits 80 columns."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("rate", "/ critical", "sharpness", "l2 norm", "test loss"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("regime", no_wrap=True)
    for row in table.iter_rows(named=True):
        figures = [row["sharpness"], row["l2"], row["test_loss"]]
        shown.add_row(
            f"{row['lr']:.4g}",
            "" if flow is None else f"{row['lr'] / flow.critical_lr:.3g}",
            *("" if value is None else f"{value:.4g}" for value in figures),
            row["regime"] + ("" if row["reached"] or row["diverged"] else CUT_OFF),
        )
    return shown


def _task(descents: dict[str, Record]) -> list[str]:
    """What was trained, and down to where."""
    config = next(iter(descents.values())).config
    what = config.get("function") or f"{config.get('model')} on {config.get('data')}"
    return [f"{what}, from one initialisation down to a training loss of {config['stop_loss']:g}."]


def _pictures(table: pl.DataFrame, flow: FlowEnd | None) -> list[Figure]:
    """The curve over the rates; none where every rate diverged and the flow has nothing to say either."""
    if flow is None and table["diverged"].all():
        return []
    return [
        Figure(
            "tradeoff",
            "Sharpness, norms and test loss over the learning rate",
            "The end of each run, at the same training loss unless marked. Dashed: 2/η, above which gradient descent "
            "is unstable; dotted: the largest sharpness of gradient flow, equal to 2/η at the critical learning rate. "
            "Shaded: flow-aligned below the critical learning rate; above it the edge of stability, for runs whose "
            "final sharpness is at least 0.9 times 2/η. Circled: the lowest test loss.",
            tradeoff_panels(table, critical_lr=None if flow is None else flow.critical_lr),
        )
    ]


def _flow(record: Record | None) -> tuple[FlowEnd | None, str]:
    """Gradient flow's end, or why there is none."""
    if record is None:
        return None, "gradient flow has no record that came to its end"
    try:
        return FlowEnd.of(record), ""
    except InputError as error:
        return None, str(error)


def _together(records: dict[str, Record]) -> list[str]:
    """Which runs were trained in one batched program, and what that saved."""
    found = [info for record in records.values() if (info := record.info.get("batched"))]
    if not found:
        return []
    faster = found[0]["faster"]
    by = "" if faster is None else f", {faster:.1f} times faster than one by one by a probe"
    return [f"{len(found)} of {len(records)} runs were trained together{by}."]


def _findings(table: pl.DataFrame, flow: FlowEnd | None, why: str) -> list[str]:
    if flow is None:
        lines = [f"critical learning rate: not known ({why})."]
    else:
        lines = [
            f"critical learning rate {flow.critical_lr:.4g} = 2 / {flow.sharpness:.4g}, the largest sharpness of "
            "gradient flow "
            f"(at the start it was {flow.initial:.4g}, at the end {flow.end.sharpness:.4g})."
        ]
    held = table.filter(~pl.col("diverged")).drop_nulls("test_loss")
    candidates = held.filter("reached") if held["reached"].any() else held
    if candidates.is_empty():
        nothing = "every run diverged" if table["diverged"].all() else "there are no test data"
        return [*lines, f"best test loss: none, since {nothing}."]
    best = candidates.sort("test_loss").row(0, named=True)
    times = "" if flow is None else f", {best['lr'] / flow.critical_lr:.3g} times the critical learning rate"
    where = f"at learning rate {best['lr']:g}{times} ({best['regime']})"
    return [*lines, f"best test loss {number(best['test_loss'])} {where}.{_as_good(candidates, best)}"]


def _as_good(candidates: pl.DataFrame, best: dict[str, Any]) -> str:
    """The largest rate whose test loss is nearly the best: it takes the fewest steps of all that are as good."""
    nearly = candidates.filter(pl.col("test_loss") <= NEARLY * best["test_loss"]).sort("lr").row(-1, named=True)
    if best["test_loss"] <= 0 or nearly["lr"] <= best["lr"]:
        return ""
    steps = f"{nearly['steps']} steps in place of {best['steps']}"
    return f" The largest learning rate within 1% of it is {nearly['lr']:g} ({nearly['regime']}; {steps})."


def _doubts(records: dict[str, Record], flow: FlowEnd | None) -> list[str]:
    """What a reader has to know before believing the rest."""
    lines = []
    if flow is not None and not flow.end.reached:
        lines.append(
            f"gradient flow did not reach the stop loss in {flow.end.steps} steps: its sharpness may still grow, and "
            "the critical learning rate may be lower; try more --steps."
        )
    if flow is not None and flow.sharpness <= 1.05 * flow.initial:
        lines.append(
            "the sharpness of gradient flow never exceeded its initial value: without progressive sharpening, runs "
            "above the critical learning rate may leave the initial region and then follow gradient flow."
        )
    starts = {name: float(values[0]) for name, r in records.items() if (values := r.series("loss", "train")[1]).size}
    low, high = min(starts.values()), max(starts.values())
    if high - low > SAME_START * abs(high):
        lines.append(
            f"the runs did not start from the same parameters: the initial losses are {low:.6g} to {high:.6g}; "
            "the function must return the same model at every call (torch's generator is seeded before)."
        )
    return lines
