"""Records as files that other programs read: Parquet, CSV, TensorBoard."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgescope.atomic import subfolder, write_file
from edgescope.errors import RecordError, UnknownNameError
from edgescope.extras import Optional, require
from edgescope.store.record import Record
from edgescope.store.runs_below import runs_below
from edgescope.store.salvage import salvage

if TYPE_CHECKING:
    import polars as pl
else:
    pl = Optional("polars")

FORMATS: Final = ("parquet", "csv", "tensorboard")
SUFFIX: Final = ".edgescope"  # of our TensorBoard files, so that a second export replaces these and no others


def export(
    folder: str | os.PathLike[str],
    to: str = "parquet",
    out: str | os.PathLike[str] | None = None,
    *,
    damaged: bool = False,
) -> Path:
    """Write the scalars of a run, or of every run below ``folder``, to ``out``, and give its path.

    ``to`` is ``parquet`` or ``csv`` (one long table as :meth:`Record.table` gives it; for several runs with a first
    column ``run``, the path of the run below ``folder``) or ``tensorboard`` (a log folder, one subfolder a run; scalars
    are tagged ``measure`` or ``measure/part``). ``out`` is by default ``export.parquet``, ``export.csv`` or
    ``tensorboard`` in ``folder``. With ``damaged`` what is whole of damaged records is exported, with a warning that
    says what is left out. Every file appears whole or not at all. Raises :class:`UnknownNameError` for another format,
    :class:`RecordError` for a folder without records, damaged records, or where ``out`` cannot be written, and
    :class:`MissingExtraError` where a package is missing.
    """
    folder = Path(folder)
    if to not in FORMATS:
        raise UnknownNameError(f"unknown export format '{to}'", expected=f"one of {', '.join(FORMATS)}")
    tables = _tables(folder, damaged)
    if to == "tensorboard":
        logs = Path(out) if out is not None else subfolder(folder, "tensorboard")
        for run, table in tables.items():
            _write_events(table, logs / run)
        return logs
    if set(tables) != {""}:
        tables = {run: table.insert_column(0, pl.lit(run).alias("run")) for run, table in tables.items()}
    table = pl.concat(tables.values())
    content = io.BytesIO()
    table.write_parquet(content) if to == "parquet" else table.write_csv(content)
    return write_file(Path(out) if out is not None else folder / f"export.{to}", content.getvalue())


def _tables(folder: Path, damaged: bool) -> dict[str, pl.DataFrame]:
    tables: dict[str, pl.DataFrame] = {}
    for run, place in runs_below(folder).items():
        with salvage(place) if damaged else Record.open(place) as record:
            tables[run] = record.table()
    if not tables:
        found = f"{folder} contains no record" if folder.is_dir() else f"there is no folder {folder}"
        raise RecordError(found, expected="the folder of a run, or of several")
    return tables


def _write_events(table: pl.DataFrame, folder: Path) -> None:
    """The scalars of one run as the one event file of ours in ``folder``."""
    require("trackers", "TensorBoard files need", "tensorboard")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    content, now = io.BytesIO(), time.time()
    writer = RecordWriter(content)
    writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
    scalars = table.filter(pl.col("value").is_not_null()).select("step", "measure", "part", "value")
    for step, measure, part, value in scalars.iter_rows():
        tagged = Summary.Value(tag=f"{measure}/{part}" if part else measure, simple_value=value)
        writer.write(Event(wall_time=now, step=step, summary=Summary(value=[tagged])).SerializeToString())
    path = write_file(folder / f"events.out.tfevents.{now:.6f}{SUFFIX}", content.getvalue())
    for old in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
        if old != path:
            old.unlink(missing_ok=True)
