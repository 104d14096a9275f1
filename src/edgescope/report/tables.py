"""Tables of runs: which columns there are, what is the same in all rows, and how cells are written."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup, escape

from edgescope.printable import printable
from edgescope.report.numbers import duration, number

CONFIGURATION = ("run", "data", "model", "optimizer", "lr", "steps", "mode", "precision", "status")
SPENDING = ("run", "losses", "gradients", "products", "seconds", "threads", "path")

_HEADINGS = {
    "lr": "learning rate η",
    "losses": "loss evaluations",
    "products": "curvature products",
    "seconds": "time",
    "path": "derivative path",
    "mode": "measured in mode",
}


@dataclass(frozen=True)
class Column:
    """One column of a table of runs."""

    key: str
    heading: str
    numeric: bool


@dataclass(frozen=True)
class RunTables:
    """What the page says of all runs: what they share, and the columns of configuration and of cost."""

    common: dict[str, Any]
    configuration: list[Column]
    spending: list[Column]

    @classmethod
    def of(cls, runs: Sequence[Mapping[str, Any]]) -> RunTables:
        """The tables of these runs; what is the same in all of several runs is said once, not in every row."""
        known = dict.fromkeys([*CONFIGURATION, *(key for run in runs for key in run if key not in SPENDING)])
        shared = common(runs, [key for key in known if key not in ("run", "status")])
        return cls(shared, columns(runs, [key for key in known if key not in shared]), columns(runs, SPENDING))


def common(runs: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, Any]:
    """Those of ``keys`` that have the same value in all of several runs, with it."""
    if len(runs) < 2:
        return {}
    first = runs[0]
    return {key: first[key] for key in keys if key in first and all(run.get(key) == first[key] for run in runs)}


def columns(runs: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[Column]:
    """The columns that some run has a value for; of numbers where every value is one."""
    found = []
    for key in keys:
        values = [run[key] for run in runs if run.get(key) not in (None, "")]
        if values:
            numeric = all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in values)
            found.append(Column(key, heading(key), numeric))
    return found


def heading(key: str) -> str:
    """The name of a column for a reader."""
    return _HEADINGS.get(key, key.replace("_", " "))


def cell(value: Any, key: str) -> str:
    """A value as the text of a cell; long descriptions may break after their commas."""
    if isinstance(value, jinja2.Undefined):
        value = None
    if key == "seconds" and isinstance(value, numbers.Real):
        return duration(float(value))
    text = number(value)
    if not isinstance(value, str) or "," not in text:
        return text
    return Markup(escape(printable(text)).replace(",", Markup(",<wbr>")))
