"""The report of runs that belong to no study: what was measured, drawn, without verdicts."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from edgescope.errors import RecordError
from edgescope.monitor.reasons import Verdict
from edgescope.monitor.verdict import verdict_of
from edgescope.printable import printable_names
from edgescope.report.notes import Notes
from edgescope.report.page import write_report
from edgescope.report.run_report.figures import MOST_RUNS, run_figures
from edgescope.report.run_report.rows import run_row, total_cost, versions_of
from edgescope.report.run_report.scalars import KINDS, scalars_of
from edgescope.store import Record
from edgescope.store.runs_below import runs_below


def report_runs(
    folder: Path,
    out: Path | None = None,
    *,
    title: str | None = None,
    abstract: str | None = None,
    command: str | None = None,
) -> Path:
    """Write the report of the run in ``folder``, or of all runs below it, there or into ``out``, and give its path.

    ``title``, ``abstract`` and the ``command`` that writes it again are those of a report of runs unless given.
    Of more runs than can be told apart in one picture some are drawn, and the report says so. Raises
    :class:`RecordError` where there is no record, or a broken one.
    """
    below = runs_below(folder)
    if not below:
        raise RecordError(
            f"{folder} contains no record", expected="the folder of a study, of a run, or of several runs"
        )
    names = printable_names(name or folder.resolve().name for name in below)
    places = dict(zip(names, below.values(), strict=True))
    found = gather(places)
    with ExitStack() as stack:
        records = {name: stack.enter_context(Record.open(places[name])) for name in found.drawn}
        first = records[names[0]]
        return write_report(
            out or folder,
            title=title or (f"Training run {names[0]}" if len(places) == 1 else f"{len(places)} training runs"),
            abstract=abstract or abstract_of(len(places), found.verdicts[names[0]]),
            paper="",
            findings=None,
            figures=list(run_figures(records, found.table)),
            runs=[row | {"regime at the end": found.verdicts[row["run"]].regime} for row in found.rows],
            cost=total_cost(found.rows),
            versions=versions_of(first),
            command=command or str(first.info.get("command") or "") or f"edgescope report {shlex.quote(str(folder))}",
            notes=found.notes,
        )


def report_record(record: Record, out: Path) -> Path:
    """Write the report of one run that is open, such as one in memory, into ``out``, and give its path."""
    name = printable_names([record.folder.name or "run"])[0]
    notes = Notes(sessions=True)
    pieces: list[pl.DataFrame] = []
    notes.add(name, record, _kept(record.pieces(), pieces))
    verdict, row = verdict_of(record), run_row(name, record)
    return write_report(
        out,
        title=f"Training run {name}",
        abstract=abstract_of(1, verdict),
        paper="",
        findings=None,
        figures=list(run_figures({name: record}, scalars_of(name, pieces))),
        runs=[row | {"regime at the end": verdict.regime}],
        cost=total_cost([row]),
        versions=versions_of(record),
        command=str(record.info.get("command") or ""),
        notes=notes.rows(),
    )


@dataclass(frozen=True)
class Gathered:
    """What a report needs of all runs, read in one pass.

    ``rows`` are those of the table of runs, ``notes`` those of the table of notes. ``drawn`` are the runs that figures
    show, at most ``MOST_RUNS``, and ``table`` has the rows of :func:`scalars_of` of these. ``verdicts`` are
    those on all runs.
    """

    rows: list[dict[str, Any]]
    notes: list[dict[str, Any]]
    drawn: list[str]
    table: pl.DataFrame
    verdicts: dict[str, Verdict]


def gather(places: Mapping[str, Path]) -> Gathered:
    """Read the records in these folders, one after the other: a process has room for some hundred open files."""
    rows, notes, ends = [], Notes(sessions=True), []
    tables: dict[str, pl.DataFrame] = {}
    verdicts: dict[str, Verdict] = {}
    for name, place in places.items():
        pieces: list[pl.DataFrame] = []
        with Record.open(place) as record:
            rows.append(run_row(name, record))
            verdicts[name] = verdict_of(record)
            notes.add(name, record, _kept(record.pieces(), pieces))
        table = scalars_of(name, pieces)
        if len(places) > MOST_RUNS:
            ends.append(_ends(table))
        if len(tables) < 2 * MOST_RUNS:  # further ones are read again, if they are drawn
            tables[name] = table
    drawn = list(places) if len(places) <= MOST_RUNS else _chosen(list(places), pl.concat(ends))
    for name in drawn:
        if name not in tables:
            with Record.open(places[name]) as record:
                tables[name] = scalars_of(name, record.pieces())
    drawn_table = pl.concat([pl.DataFrame(schema=KINDS), *(tables[n] for n in drawn)])
    return Gathered(rows, notes.rows(), drawn, drawn_table, verdicts)


def _kept(pieces: Iterable[pl.DataFrame], kept: list[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The pieces, whose scalars are kept on the way."""
    for piece in pieces:
        kept.append(piece.select("step", "measure", "part", "value"))
        yield piece


def abstract_of(runs: int, verdict: Verdict | None = None) -> str:
    """What the figures of so many runs show, and of a single one the verdict on it."""
    text = "All measurements during training, from the record."
    if runs == 1 and verdict is not None:
        text += f" Regime at the end: {verdict}"
    if runs > MOST_RUNS:
        text += (
            f" Figures show {MOST_RUNS} of {runs} runs: the first, those with the lowest and the highest value of each"
            " quantity, and others evenly spaced in the order of their names. The tables have all runs."
        )
    return text


def _ends(table: pl.DataFrame) -> pl.DataFrame:
    """The lowest and the highest value of each quantity of a run: run, measure, part, low, high."""
    finite = table.filter(pl.col("value").is_finite())
    ends = finite.group_by("run", "measure", "part").agg(low=pl.col("value").min(), high=pl.col("value").max())
    return ends.sort("measure", "part")


def _chosen(names: list[str], ends: pl.DataFrame) -> list[str]:
    """``MOST_RUNS`` of the runs: the first, those with the extremes of each quantity, others evenly spaced."""
    kept = {names[0]}
    for _, quantity in ends.group_by("measure", "part", maintain_order=True):
        extremes = {quantity.sort("low")["run"][0], quantity.sort("high")["run"][-1]}
        if len(kept | extremes) <= MOST_RUNS:
            kept |= extremes
    rest = [name for name in names if name not in kept]
    free = MOST_RUNS - len(kept)
    kept |= {rest[(2 * place + 1) * len(rest) // (2 * free)] for place in range(free)}
    return [name for name in names if name in kept]
