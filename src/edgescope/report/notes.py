"""What a reader of the figures must know: the events of runs, and why readings have no value, each said once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from edgescope.store import Record

Rows = dict[tuple[str, str], dict[str, Any]]

SESSIONS = ("resumed", "interrupted", "lock")
"""Kinds of events that say how a run was carried out, and nothing of its figures."""


class Notes:
    """What is noted in the runs that were added, one row for each thing.

    Events of equal kind and text are one row, with the first step and the runs that have it; so are readings of one
    measure without a value and with the same note. With ``sessions`` also events that say how
    the runs were carried out.
    """

    def __init__(self, sessions: bool = False) -> None:
        self._left_out = () if sessions else SESSIONS
        self._runs = 0
        self._events: Rows = {}
        self._readings: Rows = {}

    def add(self, name: str, record: Record, pieces: Iterable[pl.DataFrame] | None = None) -> None:
        """Add what is noted in one run; ``pieces`` are those of the record, all of which are gone through."""
        self._runs += 1
        for step, kind, text, _ in record.events().iter_rows():
            if kind not in self._left_out:
                _add(self._events, kind, text, name, step, step)
        for piece in record.pieces() if pieces is None else pieces:
            if not (piece["note"] != "").any():
                continue
            with_value = piece.filter(pl.col("value").is_not_null()).select("step", "measure").unique()
            without = piece.filter(pl.col("note") != "").join(with_value, on=["step", "measure"], how="anti")
            grouped = without.group_by("measure", "note", maintain_order=True).agg(
                pl.col("step").min().alias("first"), pl.col("step").max().alias("last")
            )
            for measure, note, first, last in grouped.iter_rows():
                _add(self._readings, f"{measure}: no value", note, name, first, last)

    def rows(self) -> list[dict[str, Any]]:
        """``about`` (kind of event, or measure), ``text``, ``steps``, ``runs`` of each; those of events come first."""
        return [
            {
                "about": about,
                "text": text,
                "steps": str(row["first"]) if row["first"] == row["last"] else f"{row['first']} to {row['last']}",
                "runs": next(iter(row["runs"])) if len(row["runs"]) == 1 else f"{len(row['runs'])} of {self._runs}",
            }
            for rows in (self._events, self._readings)
            for (about, text), row in rows.items()
        ]


def notes_of(records: Mapping[str, Record]) -> list[dict[str, Any]]:
    """The rows of :class:`Notes` of all these runs."""
    notes = Notes()
    for name, record in records.items():
        notes.add(name, record)
    return notes.rows()


def _add(rows: Rows, about: str, text: str, run: str, first: int, last: int) -> None:
    row = rows.setdefault((about, text), {"first": first, "last": last, "runs": {}})
    row["first"], row["last"] = min(row["first"], first), max(row["last"], last)
    row["runs"][run] = None
