"""Records as files that other programs read: Parquet, CSV, TensorBoard."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import polars as pl

from edgescope.errors import InputError, RecordError, UnknownNameError
from edgescope.store.database import faults
from edgescope.store.record import FILE, Record

FORMATS: Final = ("parquet", "csv", "tensorboard")
SUFFIX: Final = ".edgescope"  # of our TensorBoard files, so that a second export replaces these and no others


def export(folder: str | os.PathLike[str], to: str = "parquet", out: str | os.PathLike[str] | None = None) -> Path:
    """Write the scalars of a run, or of every run below ``folder``, to ``out``, and give its path.

    ``to`` is ``parquet`` or ``csv`` (one long table as :meth:`Record.table` gives it; for several runs with a first
    column ``run``, the path of the run below ``folder``) or ``tensorboard`` (a log folder, one subfolder a run; scalars
    are tagged ``measure`` or ``measure/part``). ``out`` is by default ``export.parquet``, ``export.csv`` or
    ``tensorboard`` in ``folder``. Raises :class:`UnknownNameError` for another format, :class:`RecordError` for a
    folder without records, :class:`InputError` where the package tensorboard is missing.
    """
    folder = Path(folder)
    if to not in FORMATS:
        raise UnknownNameError(f"unknown export format '{to}'", expected=f"one of {', '.join(FORMATS)}")
    tables = _tables(folder)
    out = Path(out) if out is not None else folder / ("tensorboard" if to == "tensorboard" else f"export.{to}")
    with faults(out):
        if to == "tensorboard":
            for run, table in tables.items():
                _write_events(table, out / run)
            return out
        if set(tables) != {""}:
            tables = {run: table.insert_column(0, pl.lit(run).alias("run")) for run, table in tables.items()}
        table = pl.concat(tables.values())
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = out.with_name(f".{out.name}.new")
        try:
            table.write_parquet(aside) if to == "parquet" else table.write_csv(aside)
            aside.replace(out)
        finally:
            aside.unlink(missing_ok=True)
    return out


def _tables(folder: Path) -> dict[str, pl.DataFrame]:
    paths = [folder / FILE] if (folder / FILE).exists() else sorted(folder.rglob(FILE))
    if not paths:
        raise RecordError(f"{folder} holds no record", expected="the folder of a run, or of several")
    tables: dict[str, pl.DataFrame] = {}
    for path in paths:
        with Record.open(path.parent) as record:
            run = path.parent.relative_to(folder).as_posix()
            tables["" if run == "." else run] = record.table()
    return tables


def _write_events(table: pl.DataFrame, folder: Path) -> None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "TensorBoard files need the package tensorboard", hint="pip install 'edgescope[trackers]'"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
        old.unlink()
    with SummaryWriter(str(folder), filename_suffix=SUFFIX) as writer:
        scalars = table.filter(pl.col("value").is_not_null()).select("step", "measure", "part", "value")
        for step, measure, part, value in scalars.iter_rows():
            writer.add_scalar(f"{measure}/{part}" if part else measure, value, step)
