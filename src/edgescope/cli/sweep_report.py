"""The report of a sweep over learning rates: a table for the terminal, and a page with figures."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
from rich import box
from rich.table import Table

from edgescope.cli.say import say
from edgescope.cli.sweep_words import (
    batched_words,
    best_words,
    criterion_of,
    critical_words,
    doubts,
    task_words,
    trainer_words,
    unused_rate_words,
)
from edgescope.cli.terminal import Terminal
from edgescope.cli.width_report import means_by_width, several_widths, width_pictures, width_table, width_words
from edgescope.errors import InputError, RecordError
from edgescope.figures import Figure, tradeoff_panels
from edgescope.monitor.run_facts import RunFacts
from edgescope.monitor.verdict import judge
from edgescope.printable import printable_names
from edgescope.report import write_report
from edgescope.report.run_report import run_figures
from edgescope.report.run_report.pages import gather
from edgescope.report.run_report.rows import total_cost, versions_of
from edgescope.report.run_report.scalars import followed
from edgescope.store import Record
from edgescope.training import End, FlowEnd, tradeoff_table
from edgescope.training.schedules import SCHEDULES
from edgescope.training.stability_factor import factor_of_run, stability_factor
from edgescope.training.width_transfer import WidthTransfer, width_of

CUT_OFF = " *"
HALF = 0.5
"""The share of the learning rate up to whose last step a run with a decreasing one is judged."""


def report_sweep(folder: Path, out: Path | None = None) -> Path:
    """Print what the sweep in ``folder`` found and write its report there, or into ``out``, from its records alone.

    Raises :class:`RecordError` where no rate left a record.
    """
    with ExitStack() as stack:
        paths = sorted(path.parent for path in (folder / "runs").glob("*/record.sqlite"))
        names = printable_names(path.name for path in paths)
        opened = {name: stack.enter_context(Record.open(path)) for name, path in zip(names, paths, strict=True)}
        records = dict(sorted(opened.items(), key=lambda one: place_in_sweep(one[1].config)))
        ended = {name: r for name, r in records.items() if r.status in ("finished", "diverged")}
        descents = {name: record for name, record in ended.items() if not _is_flow(record)}
        if not descents:
            raise RecordError(f"no run of the sweep in {folder} has ended", hint="--resume to continue it")
        found = _found_at_widths(descents, ended) if several_widths(descents) else _found(descents, ended)
        Terminal().print(found.shown)
        for line in [*([f"{CUT_OFF.strip()} {found.note}"] if found.note else []), *found.words]:
            say(line)
        gathered = gather({name: record.folder for name, record in records.items()})
        drawn = {name: records[name] for name in gathered.drawn}
        report = write_report(
            out or folder,
            title=found.title,
            abstract=" ".join(_in_prose(line) for line in [*found.words, found.note] if line),
            paper=found.paper,
            findings=None,
            figures=[*found.figures, *run_figures(drawn, followed(gathered.table), arrays=False)],
            runs=gathered.rows,
            cost=total_cost(gathered.rows),
            versions=versions_of(next(iter(records.values()))),
            command=next(iter(descents.values())).info.get("command") or f"edgescope report {shlex.quote(str(folder))}",
            notes=gathered.notes,
        )
    say(f"report: {report}")
    return report


def place_in_sweep(config: Mapping[str, Any]) -> tuple[bool, float, float, float]:
    """Where a run stands among those of a sweep: gradient flow first, then by width, learning rate and seed."""
    flow = str(config.get("optimizer", "")).startswith("gradient-flow")
    return not flow, width_of(config) or 0, float(config.get("lr") or 0), float(config.get("seed") or 0)


def _in_prose(line: str) -> str:
    """A line for the terminal as a sentence of a paragraph."""
    first = line.split(" ", 1)[0]
    return line if ":" in first.rstrip(":") else line[:1].upper() + line[1:]  # module:function keeps its letters


@dataclass(frozen=True)
class SweepFindings:
    """What a sweep found: its title and source, a table for the terminal, sentences, and figures.

    ``note`` explains the asterisks of the table, where it has any.
    """

    title: str
    paper: str
    shown: Table
    words: list[str]
    figures: list[Figure]
    note: str = ""


def _found(descents: Mapping[str, Record], ended: Mapping[str, Record]) -> SweepFindings:
    """The trade-off of one network, beside gradient flow where there is one."""
    config = next(iter(descents.values())).config
    if "trainer" in config:
        return _found_of_trainer(descents)
    equal_steps = config.get("stop_loss") is None
    flows, why = _flows(ended)
    factor, by_flow = stability_factor(config["optimizer"]), factor_of_run(config)
    table = sweep_table(descents, flows if by_flow else {}, by_flow, equal_steps)
    critical = None
    if factor is not None and flows:
        critical = statistics.median(flow.critical_for(factor) for flow in flows.values())
    missed = table.filter(~pl.col("reached") & ~pl.col("diverged")).height
    words = [
        task_words(descents),
        *critical_words(flows, why, config, factor, by_flow is not None),
        best_words(table, equal_steps, critical),
        *doubts(ended, flows),
        *batched_words(ended),
    ]
    return SweepFindings(
        "The norm–sharpness trade-off across learning rates",
        "Matveev, Fojtik, Chou, Kutyniok, Maly (2025), arXiv 2505.21423",
        rate_table(table, critical),
        words,
        _pictures(table, critical if by_flow else None, by_flow, equal_steps),
        f"{missed} of {table.height} runs did not reach the stop loss within their number of steps." if missed else "",
    )


def _found_of_trainer(descents: Mapping[str, Record]) -> SweepFindings:
    """The learning rates of a trainer of the user's."""
    table = sweep_table(descents, {}, None, True)
    return SweepFindings(
        "Learning rates of a trainer",
        "Cohen, Kaur, Li, Kolter, Talwalkar (2021), arXiv 2103.00065",
        rate_table(table, None),
        [trainer_words(descents), best_words(table, True, None), *unused_rate_words(descents)],
        _pictures(table, None, None, True),
    )


def _found_at_widths(descents: Mapping[str, Record], ended: Mapping[str, Record]) -> SweepFindings:
    """The learning rates at several widths of a network."""
    parts = []
    for width in sorted({width for record in descents.values() if (width := width_of(record.config)) is not None}):
        ran = {name: record for name, record in descents.items() if width_of(record.config) == width}
        parts.append(sweep_table(ran, {}, None, True).with_columns(width=pl.lit(width, pl.Int64)))
    table = pl.concat(parts)
    criterion = criterion_of(table, True)
    transfer = WidthTransfer.of(table, criterion)
    means = means_by_width(table, criterion)
    return SweepFindings(
        "Learning rates across widths",
        "Yang et al. (2022), arXiv 2203.03466: whether the best learning rate transfers depends on the parametrisation",
        width_table(means),
        [
            f"networks of the widths {', '.join(map(str, transfer.best))}, such as {task_words(descents)}",
            *width_words(means, transfer),
            *batched_words(ended),
        ],
        width_pictures(means, criterion),
    )


def sweep_table(
    descents: Mapping[str, Record], flows: Mapping[int, FlowEnd], factor: float | None, equal_steps: bool
) -> pl.DataFrame:
    """One row for each run, in the order of learning rates and seeds: the columns of a trade-off table, ``seed``, and
    ``effective_sharpness``, the last one, which is null where it was not measured.

    With a ``factor`` the regimes follow from gradient flow with the same seed, without it they are the verdicts on the
    runs. Where no run stops at a loss, those that did not diverge count as having reached their end.
    """
    parts = []
    for seed in sorted({record.config["seed"] for record in descents.values()}):
        ran = sorted(((End.of(r), r) for r in descents.values() if r.config["seed"] == seed), key=lambda one: one[0].lr)
        flow = flows.get(seed)
        critical = None if flow is None or factor is None else flow.critical_for(factor)
        part = tradeoff_table([end for end, _ in ran], critical, factor or 2.0)
        in_metric = [_effective_sharpness(end, record) for end, record in ran]
        part = part.with_columns(pl.Series("effective_sharpness", in_metric, pl.Float64, strict=False))
        if factor is None:
            verdicts = ["diverged" if end.diverged else regime_of_run(record) for end, record in ran]
            part = part.with_columns(pl.Series("regime", verdicts, pl.String))
        parts.append(part.with_columns(seed=pl.lit(seed, pl.Int64)))
    table = pl.concat(parts).sort("lr", "seed")
    return table.with_columns(reached=~pl.col("diverged")) if equal_steps else table


def _effective_sharpness(end: End, record: Record) -> float | None:
    """The last sharpness in the metric of the optimizer; None where it was not measured or the run diverged."""
    values = record.table().filter(measure="effective_sharpness", part="").drop_nulls("value").sort("step")["value"]
    return None if values.is_empty() or end.diverged else float(values[-1])


def regime_of_run(record: Record) -> str:
    """The regime of a run by its verdict, at its end, or at the last step with at least half of the learning rate.

    The latter where the learning rate decreases until the end, whose small steps are stable whatever the rate was.
    """
    facts, config = RunFacts.of(record), record.config
    if "trainer" in config:
        steps, lrs = record.series("learning_rate")
        until = max(steps[lrs >= HALF * lrs.max()], default=0) if len(lrs) else None
        return judge(
            facts if until is None else replace(facts, table=facts.table.filter(pl.col("step") <= until))
        ).regime
    schedule = SCHEDULES.build(config.get("schedule", "constant"))
    if schedule.needs_total:
        total = int(config["steps"])
        until = max((step for step in range(total + 1) if schedule.factor(step, total) >= HALF), default=total)
        facts = replace(facts, table=facts.table.filter(pl.col("step") <= until))
    return judge(facts).regime


def rate_table(table: pl.DataFrame, critical_lr: float | None) -> Table:
    """One line for each run: where it ended, and its regime. Fits 80 columns."""
    several = table["seed"].n_unique() > 1
    untested = table["test_loss"].drop_nulls().is_empty()
    last = "train loss" if untested else "test loss"
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in (
        "rate",
        *(["seed"] if several else []),
        *([] if critical_lr is None else ["/ critical"]),
        "sharpness",
        "l2 norm",
        last,
    ):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("regime", no_wrap=True)
    for row in table.iter_rows(named=True):
        figures = [row["sharpness"], row["l2"], row["train_loss" if untested else "test_loss"]]
        shown.add_row(
            f"{row['lr']:.4g}",
            *([str(row["seed"])] if several else []),
            *([] if critical_lr is None else [f"{row['lr'] / critical_lr:.3g}"]),
            *("" if value is None else f"{value:.4g}" for value in figures),
            row["regime"] + ("" if row["reached"] or row["diverged"] else CUT_OFF),
        )
    return shown


def _pictures(table: pl.DataFrame, critical_lr: float | None, factor: float | None, equal_steps: bool) -> list[Figure]:
    """The curve over the rates; none where every rate diverged and the flow has nothing to say either."""
    if critical_lr is None and table["diverged"].all():
        return []
    ends = "after equally many steps" if equal_steps else "at the same training loss unless marked"
    if table["seed"].n_unique() > 1:
        table = table.with_columns(run=pl.format("seed {}", "seed"))
    lines = "" if factor is None else f"Dashed: {factor:.3g}/η, above which training is unstable in full batches. "
    if critical_lr is not None:
        lines += (
            "Dotted: the largest sharpness of gradient flow, at the critical learning rate equal to it. Shaded: "
            "flow-aligned below the critical learning rate; above it the edge of stability, for runs whose final "
            "sharpness is at least 0.9 times the dashed line. "
        )
    return [
        Figure(
            "tradeoff",
            "Sharpness, norms and test loss over the learning rate",
            f"The end of each run, {ends}. {lines}Circled: the lowest test loss.",
            tradeoff_panels(table, critical_lr=critical_lr, factor=factor),
        )
    ]


def _is_flow(record: Record) -> bool:
    return str(record.config.get("optimizer", "")).startswith("gradient-flow")


def _flows(records: Mapping[str, Record]) -> tuple[dict[int, FlowEnd], str]:
    """The ends of gradient flow by seed, and why there is none."""
    found, why = {}, "gradient flow has no record that came to its end"
    for record in records.values():
        if _is_flow(record):
            try:
                found[int(record.config["seed"])] = FlowEnd.of(record)
            except InputError as error:
                why = str(error)
    return dict(sorted(found.items())), why
