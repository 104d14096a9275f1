"""Many measured figures of a finding as one table: a row a run, a column a quantity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LEAST = 6
"""Figures from which on a table reads better than a list."""

FULL = 0.75
"""Share of the cells that must be filled."""


@dataclass(frozen=True)
class CrossTable:
    """``rows`` pairs each row's name with its values, in the order of ``columns``; None where there is none."""

    columns: list[str]
    rows: list[tuple[str, list[float | None]]]


def cross_table(measured: Mapping[str, float]) -> CrossTable | None:
    """The table of figures all named "row: column" or all "row, column"; None where they make none worth drawing."""
    for separator in (": ", ", "):
        named = {tuple(name.split(separator, 1)): value for name, value in measured.items() if separator in name}
        rows, columns = (list(dict.fromkeys(pair[k] for pair in named)) for k in (0, 1))
        filled = len(named) >= FULL * len(rows) * len(columns)
        if len(named) == len(measured) >= LEAST and len(rows) > 1 and len(columns) > 1 and filled:
            return CrossTable(columns, [(row, [named.get((row, column)) for column in columns]) for row in rows])
    return None
