"""A monitor in a notebook: its last readings and its verdict as a table; and the way to the figures and the report."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from edgescope.errors import InputError, RecordError
from edgescope.measures import Reading
from edgescope.monitor.reasons import Verdict
from edgescope.notebooks import table_html, text_of
from edgescope.store import Record

REPORT: Final = "edgescope.report.run_report"
"""The package that draws runs. It reads what monitors have written and so lies above them; it is imported by its name,
and only when a user asks a monitor for figures."""


def run_report() -> Any:
    """The package that draws runs; :class:`MissingExtraError` where what it needs is not installed."""
    return importlib.import_module(REPORT)


@contextlib.contextmanager
def readable(record: Record) -> Iterator[Record]:
    """This record, or where it is closed the one in its folder; :class:`InputError` for one that was in memory."""
    try:
        _ = record.last_step
    except RecordError:
        if record.folder == Path(":memory:"):
            raise InputError(
                "the monitor is closed, and its record was kept in memory", hint="this before close(), or out=FOLDER"
            ) from None
        with Record.open(record.folder) as opened:
            yield opened
        return
    yield record


def report_folder(record: Record, out: str | os.PathLike[str] | None) -> Path:
    """Where the report goes; :class:`InputError` for a record in memory without ``out``."""
    if out is None and record.folder == Path(":memory:"):
        raise InputError("a report of a record in memory needs a folder", hint="report('reports/mine')")
    return record.folder if out is None else Path(out)


def monitor_html(steps: int, latest: Mapping[str, Reading], verdict: Verdict | None) -> str:
    """The last reading of each measure, and below it the verdict."""
    rows = [
        (
            f"{name}/{part}" if part else name,
            text_of(value),
            text_of(reading.errors[part]) if part in reading.errors else "",
        )
        for name, reading in latest.items()
        for part, value in reading.values.items()
    ]
    note = "" if verdict is None else str(verdict)
    return table_html(f"Monitor after {steps} steps", ("measure", "value", "error"), rows, note)
