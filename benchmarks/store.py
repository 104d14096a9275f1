"""What checksums cost: an append to a record over plain SQLite, a checkpoint over plain safetensors, and checking both.

One process, one thread, medians of several rounds in turn, on the same disk; the table goes to ``docs/benchmarks.md``.
``--quick`` takes fewer steps, to see that it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from curvature import write
from safetensors.torch import load_file, save_file
from threadpoolctl import threadpool_limits

from edgescope.measures.reading import Reading
from edgescope.store import Record, load_checkpoint, save_checkpoint

TABLES = (
    "CREATE TABLE step (step INTEGER PRIMARY KEY)",
    "CREATE TABLE reading (step INTEGER, slot INTEGER, measure TEXT, note TEXT, losses INTEGER, gradients INTEGER,"
    " products INTEGER, seconds REAL, PRIMARY KEY (step, slot)) WITHOUT ROWID",
    "CREATE TABLE value (step INTEGER, slot INTEGER, position INTEGER, part TEXT, value, error,"
    " PRIMARY KEY (step, slot, position)) WITHOUT ROWID",
    "CREATE TABLE array (step INTEGER, slot INTEGER, part TEXT, npy BLOB, PRIMARY KEY (step, slot, part))",
)
"""The tables of a record without its checksums."""

WORK = (
    # words, scalars of each measure, numbers in an array
    ("3 measures, 5 scalars", (1, 1, 3), 0),
    ("10 measures, 50 scalars", (5,) * 10, 0),
    ("1 measure, 1,000 scalars", (1000,), 0),
    ("1 measure, an array of 50,000 float32", (1,), 50_000),
)


def readings(step: int, parts: tuple[int, ...], size: int) -> list[Reading]:
    """What is read at one step."""
    array = {"": np.full(size, step, dtype=np.float32)} if size else {}
    return [
        Reading(f"measure{i}", {str(k): step / (k + 1) for k in range(count)}, arrays=array)
        for i, count in enumerate(parts)
    ]


def append_plainly(database: sqlite3.Connection, step: int, found: list[Reading]) -> None:
    """The same rows in the same number of statements and transactions, without a check of what they hold."""
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO step VALUES (?)", (step,))
    costs = [(one.cost.losses, one.cost.gradients, one.cost.products, one.seconds) for one in found]
    rows = [(step, slot, one.measure, one.note, *costs[slot]) for slot, one in enumerate(found)]
    database.executemany("INSERT INTO reading VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    values = [
        (step, slot, position, part, value, one.errors.get(part))
        for slot, one in enumerate(found)
        for position, (part, value) in enumerate(one.values.items())
    ]
    database.executemany("INSERT INTO value VALUES (?, ?, ?, ?, ?, ?)", values)
    arrays = [(step, slot, part, packed(array)) for slot, one in enumerate(found) for part, array in one.arrays.items()]
    if arrays:
        database.executemany("INSERT INTO array VALUES (?, ?, ?, ?)", arrays)
    database.execute("COMMIT")


def packed(array: np.ndarray) -> bytes:
    """An array as it is kept in a record."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def appends(place: Path, steps: int, parts: tuple[int, ...], size: int) -> tuple[float, float, float, Path]:
    """Seconds for an append to a record, and for one to plain SQLite, and for a check of the closed record."""
    found = [readings(step, parts, size) for step in range(steps)]
    with Record.create(place / "run", command="") as record:
        record.append(0, found[0])
        start = time.perf_counter()
        for step in range(1, steps):
            record.append(step, found[step])
        ours = (time.perf_counter() - start) / (steps - 1)
    database = sqlite3.connect(place / "plain.sqlite", isolation_level=None)
    with contextlib.closing(database):
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        for table in TABLES:
            database.execute(table)
        append_plainly(database, 0, found[0])
        start = time.perf_counter()
        for step in range(1, steps):
            append_plainly(database, step, found[step])
        plain = (time.perf_counter() - start) / (steps - 1)
    return ours, plain, timed(lambda: Record.open(place / "run").close()), place / "run" / "record.sqlite"


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def checkpoints(place: Path, size: int) -> tuple[float, float]:
    """Time to save, and to load, a checkpoint over that of a flushed plain file of the same tensors."""
    tensors = {"w": torch.ones(size)}

    def save_plainly() -> None:
        save_file(tensors, place / "plain.safetensors")
        with open(place / "plain.safetensors", "r+b") as file:
            os.fsync(file.fileno())

    plain = timed(save_plainly)
    saved = timed(lambda: save_checkpoint(place, 1, tensors, {}))
    loaded = timed(lambda: {name: one.clone() for name, one in load_file(place / "plain.safetensors").items()})
    return saved / plain, timed(lambda: load_checkpoint(place / "checkpoints/step-0000000001.safetensors")) / loaded


def measured(rounds: int, steps: int, size: int) -> list[str]:
    """(r) The tables, one row for each kind of step and of checkpoint."""
    lines = ["| a step | µs an append | over plain SQLite | opening and checking the closed record, MB a second |"]
    lines.append("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for number, (words, parts, array) in enumerate(WORK):
            found = []
            for turn in range(rounds):
                place = Path(folder) / f"{number}-{turn}"
                place.mkdir()
                ours, plain, opened, path = appends(place, steps if not array else max(10, steps // 10), parts, array)
                found.append((1e6 * ours, ours / plain, path.stat().st_size / 1e6 / opened))
            micro, ratio, rate = (statistics.median(column) for column in zip(*found, strict=True))
            lines.append(f"| {words} | {micro:.0f} | {ratio:.2f} | {rate:.0f} |")
        pairs = []
        for turn in range(rounds):
            place = Path(folder) / f"checkpoint{turn}"
            place.mkdir()
            pairs.append(checkpoints(place, size))
        saved, loaded = (statistics.median(column) for column in zip(*pairs, strict=True))
        lines += [
            "",
            f"Saving a checkpoint of {size:,} float32 numbers takes {saved:.2f} times as long as writing a",
            f"safetensors file and flushing it, loading and checking {loaded:.2f} times as long as reading that one.",
        ]
    return lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="few steps, nothing written")
    given = options.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    table = measured(*((1, 50, 100_000) if given.quick else (7, 2000, 5_000_000)))
    lines = ["## (r) Records and checkpoints with checksums", "", *table]
    print("\n".join(lines))
    if not given.quick:
        write("r", lines)


if __name__ == "__main__":
    main()
