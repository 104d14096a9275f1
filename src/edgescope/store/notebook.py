"""A record in a notebook: its state, its configuration, and the last value of each measure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from edgescope.errors import EdgescopeError
from edgescope.extras import Optional, installed
from edgescope.notebooks import table_html, text_of

if TYPE_CHECKING:
    import polars as pl
else:
    pl = Optional("polars")

MOST_ROWS: Final = 30


class ReadableRecord(Protocol):
    """What is read here of a record, which is defined above this."""

    folder: Path

    @property
    def state(self) -> str: ...

    @property
    def config(self) -> dict[str, Any]: ...

    @property
    def last_step(self) -> int | None: ...

    def pieces(self) -> Iterator[pl.DataFrame]: ...


class ShownInNotebooks:
    """What a record shows of itself where HTML can be shown."""

    def _repr_html_(self: ReadableRecord) -> str:
        return record_html(self)


def record_html(record: ReadableRecord) -> str:
    """A table of the last values; the error in one line for a record that cannot be read or is closed."""
    try:
        last, state = record.last_step, record.state
        title = f"Record in {record.folder}: {state}, " + ("no readings" if last is None else f"last step {last}")
        note = ", ".join(f"{key} {text_of(value)}" for key, value in record.config.items() if value is not None)
        return table_html(title, ("measure", "step", "value", "error"), _last_values(record), note)
    except EdgescopeError as error:
        return table_html(f"Record in {record.folder}", ("", ""), [("error", str(error))])


def _last_values(record: ReadableRecord) -> list[tuple[str, str, str, str]]:
    if not installed("polars"):
        return []
    last: dict[tuple[str, str], tuple[str, str, str]] = {}
    for piece in record.pieces():
        newest = piece.filter(pl.col("value").is_not_null()).group_by("measure", "part", maintain_order=True).last()
        for measure, part, step, value, error in newest.select("measure", "part", "step", "value", "error").rows():
            last[measure, part] = str(step), text_of(value), "" if error is None else text_of(error)
    rows = [(f"{measure}/{part}" if part else measure, *cells) for (measure, part), cells in last.items()]
    return rows[:MOST_ROWS]
