"""The record of one run: a single SQLite file that a killed process cannot damage and others can read meanwhile."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import operator
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from edgescope.errors import InputError, RecordError, UnknownNameError
from edgescope.store import database as db
from edgescope.store.cells import decode_array, decode_number, encode_array, encode_json, encode_number
from edgescope.store.checkpoint import checkpoint_files
from edgescope.store.info import run_info

if TYPE_CHECKING:  # a reader of records needs neither the measures nor the objective below them
    from edgescope.measures.measure import Reading

FILE: Final = "record.sqlite"
SESSION_EVENTS: Final = ("resumed", "interrupted")  # how a run was carried out, not what it found
Status = Literal["running", "finished", "diverged", "interrupted", "failed"]


class Record:
    """The record of a run in ``folder/record.sqlite``.

    Every call that writes is one transaction. What was committed survives the death of the process at any moment (a
    power cut may cost the last steps, never the file). Any number of processes may read while one writes. Use it as a
    context manager, or call :meth:`close`. All methods raise :class:`RecordError` for a full disk, a corrupt file, or
    a file that another process is writing for longer than two seconds.
    """

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        self.folder = folder
        self.path = folder / FILE
        self._database = database

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        *,
        config: dict[str, Any] | None = None,
        command: str | None = None,
        overwrite: bool = False,
    ) -> Record:
        """A new record with its configuration and :attr:`info`; the folder is made.

        ``config`` is anything JSON can hold. ``command`` is this process's command line by default. A folder that
        has a record or checkpoints raises :class:`RecordError` unless ``overwrite``, which removes them. The file
        appears whole or not at all.
        """
        folder = Path(folder)
        path, fresh = folder / FILE, folder / f".{FILE}.new"
        settings = [("config", encode_json(config or {}, "the configuration")), ("status", "running")]
        with db.faults(path):
            stale = checkpoint_files(folder)
            if (path.exists() or stale) and not overwrite:
                kind = "a record" if path.exists() else "checkpoints"
                raise RecordError(f"{folder} already holds {kind} of a run", hint="--resume, or another folder")
            folder.mkdir(parents=True, exist_ok=True)
            db.remove(fresh)
            try:
                with contextlib.closing(db.connect(fresh)) as database:
                    database.execute("PRAGMA journal_mode = WAL")
                    with db.transaction(database):
                        db.lay_out(database)
                        database.executemany("INSERT INTO meta VALUES (?, ?)", settings)
                        info = [(key, encode_json(value, key)) for key, value in run_info(command).items()]
                        database.executemany("INSERT INTO info VALUES (?, ?)", info)
            except BaseException:
                db.remove(fresh)
                raise
            db.remove(path)
            for checkpoint in stale:  # a resumed run must not continue from those of the run before
                checkpoint.unlink()
            fresh.rename(path)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Record:
        """The record in ``folder``, to read or to continue; :class:`RecordError` if there is none or it is broken."""
        folder = Path(folder)
        path = folder / FILE
        with db.faults(path):
            if not path.is_file():
                raise RecordError(f"{folder} holds no record", expected=f"the folder of a run, with a file {FILE}")
            database = db.connect(path)
            try:
                db.check(database, path)
            except BaseException:
                database.close()
                raise
        return cls(folder, database)

    def append(
        self, step: int, readings: Iterable[Reading], events: Iterable[tuple[str, str]] = (), add: bool = False
    ) -> None:
        """Write all that was read at ``step`` in one transaction; ``events`` are pairs (kind, text).

        A step written again replaces what it had, except events that :meth:`note` wrote; with ``add`` it keeps its
        other measures and events. NaN and infinities are kept.
        """
        step, readings, now = _as_step(step), list(readings), _now()
        values: list[tuple[Any, ...]] = []
        arrays: list[tuple[Any, ...]] = []
        for slot, reading in enumerate(readings):
            if any(other.measure == reading.measure for other in readings[:slot]):
                raise InputError(f"measure '{reading.measure}' was given twice at step {step}")
            name = f"measure '{reading.measure}'"
            for position, (part, value) in enumerate(reading.values.items()):
                error = encode_number(reading.errors.get(part), f"the error of {name}")
                values.append((step, slot, position, part, encode_number(value, name), error))
            arrays += [(step, slot, part, encode_array(array, name)) for part, array in reading.arrays.items()]
        costs = [(r.cost.losses, r.cost.gradients, r.cost.products, float(r.seconds)) for r in readings]
        with self._writing() as database:
            first = _clear(database, step, [reading.measure for reading in readings] if add else None)
            database.execute("INSERT OR IGNORE INTO step VALUES (?)", (step,))
            rows = [(step, first + slot, r.measure, r.note) for slot, r in enumerate(readings)]
            database.executemany("INSERT INTO reading VALUES (?, ?, ?, ?)", rows)
            values = [(step, first + slot, *rest) for _, slot, *rest in values]
            database.executemany("INSERT INTO value VALUES (?, ?, ?, ?, ?, ?)", values)
            arrays = [(step, first + slot, *rest) for _, slot, *rest in arrays]
            database.executemany("INSERT INTO array VALUES (?, ?, ?, ?)", arrays)
            timing = [(step, first + slot, *cost) for slot, cost in enumerate(costs)]
            database.executemany("INSERT INTO timing VALUES (?, ?, ?, ?, ?, ?)", timing)
            happened = [(step, kind, text, now) for kind, text in events]
            database.executemany("INSERT OR IGNORE INTO event VALUES (?, ?, ?, 0, ?)", happened)

    def note(self, step: int, kind: str, text: str) -> None:
        """Write an event ("diverged", "resumed", "interrupted", "stopped"); the same one twice is kept once."""
        row = (_as_step(step), kind, text, _now())
        with self._writing() as database:
            database.execute("INSERT OR IGNORE INTO event VALUES (?, ?, ?, 1, ?)", row)

    def set_status(self, status: Status) -> None:
        """Say how the run stands: running, finished, diverged, interrupted or failed."""
        if status not in get_args(Status):
            raise InputError(f"status '{status}'", expected=f"one of {', '.join(get_args(Status))}")
        with self._writing() as database:
            database.execute("UPDATE meta SET value = ? WHERE key = 'status'", (status,))

    def set_info(self, key: str, value: Any) -> None:
        """Add to :attr:`info`, or replace there; ``value`` is anything JSON can hold."""
        text = encode_json(value, f"info '{key}'")
        with self._writing() as database:
            database.execute("INSERT OR REPLACE INTO info VALUES (?, ?)", (key, text))

    @property
    def status(self) -> Status:
        return self._meta("status")  # type: ignore[return-value]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the run, as JSON gives it back (tuples are lists)."""
        return json.loads(self._meta("config"))

    @property
    def info(self) -> dict[str, Any]:
        """Versions, platform, command, commit, threads, start time, and what :meth:`set_info` added."""
        return {key: json.loads(value) for key, value in self._rows("SELECT key, value FROM info ORDER BY rowid")}

    @property
    def last_step(self) -> int | None:
        """The largest step appended so far; None in an empty record."""
        return self._rows("SELECT max(step) FROM step")[0][0]

    def table(self) -> pl.DataFrame:
        """All scalars, one row a step, measure and part.

        Columns: step, measure, part, value, error, losses, gradients, products, note. The three costs stand once a
        reading, in the row of its first part (null in the others), so that sums are right. ``error`` is null where
        none is known; a reading without values has one row with a null value.
        """
        rows = self._rows(
            "SELECT step, measure, ifnull(part, ''), value, error, iif(first, losses, NULL),"
            " iif(first, gradients, NULL), iif(first, products, NULL), note FROM"
            " (SELECT *, ifnull(position, 0) = 0 AS first FROM reading LEFT JOIN value USING (step, slot))"
            " JOIN timing USING (step, slot) ORDER BY step, slot, position"
        )
        decoded = [(*row[:3], decode_number(row[3]), decode_number(row[4]), *row[5:]) for row in rows]
        columns = {"step": pl.Int64, "measure": pl.String, "part": pl.String, "value": pl.Float64, "error": pl.Float64}
        counts = {"losses": pl.Int64, "gradients": pl.Int64, "products": pl.Int64}
        return pl.DataFrame(decoded, schema=columns | counts | {"note": pl.String}, orient="row")

    def wide(self, *names: str) -> pl.DataFrame:
        """One row a step, a column a scalar, named ``measure`` or ``measure/part``.

        ``names`` choose measures or single columns, in this order; all by default. A step without that scalar has null.
        """
        table = self.table().filter(pl.col("value").is_not_null())
        column = pl.when(pl.col("part") == "").then(pl.col("measure")).otherwise(pl.format("{}/{}", "measure", "part"))
        table = table.with_columns(column.alias("column"))
        known = table.select("column", "measure").unique(maintain_order=True).rows()
        chosen: dict[str, None] = {}
        for name in names or [column for column, _ in known]:
            matching = [column for column, measure in known if name in (column, measure)]
            if not matching:
                raise _unknown(name, sorted({measure for _, measure in known}))
            chosen |= dict.fromkeys(matching)
        if not known:
            return pl.DataFrame(schema={"step": pl.Int64})
        return table.pivot("column", index="step", values="value").sort("step").select("step", *chosen)

    def series(self, measure: str, part: str = "") -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Steps and values of one scalar, by step; both empty where the measure has no such part.

        Raises :class:`UnknownNameError` for a measure that a record with readings does not have.
        """
        rows = self._rows(
            "SELECT step, value FROM reading JOIN value USING (step, slot)"
            " WHERE measure = ? AND part = ? ORDER BY step",
            (measure, part),
        )
        if not rows:
            known = [name for (name,) in self._rows("SELECT DISTINCT measure FROM reading ORDER BY measure")]
            if known and measure not in known:
                raise _unknown(measure, known)
        values = np.array([decode_number(value) for _, value in rows], dtype=np.float64)
        return np.array([step for step, _ in rows], dtype=np.int64), values

    def array(self, step: int, measure: str, part: str = "") -> np.ndarray:
        """The array that ``measure`` gave at ``step``, in the dtype and shape that it had."""
        rows = self._rows(
            "SELECT npy FROM reading JOIN array USING (step, slot) WHERE step = ? AND measure = ? AND part = ?",
            (_as_step(step), measure, part),
        )
        if not rows:
            raise InputError(f"no array '{measure}' with part '{part}' at step {step} in {self.path}")
        return decode_array(rows[0][0])

    def costs(self) -> pl.DataFrame:
        """What each reading cost: step, measure, losses, gradients, products (passes over the data), seconds."""
        rows = self._rows(
            "SELECT step, measure, losses, gradients, products, seconds FROM reading"
            " JOIN timing USING (step, slot) ORDER BY step, slot"
        )
        columns = {"step": pl.Int64, "measure": pl.String, "losses": pl.Int64, "gradients": pl.Int64}
        return pl.DataFrame(rows, schema=columns | {"products": pl.Int64, "seconds": pl.Float64}, orient="row")

    def events(self) -> pl.DataFrame:
        """What happened, by step: step, kind, text, time (UTC, ISO 8601)."""
        rows = self._rows("SELECT step, kind, text, time FROM event ORDER BY step, rowid")
        columns = {"step": pl.Int64, "kind": pl.String, "text": pl.String, "time": pl.String}
        return pl.DataFrame(rows, schema=columns, orient="row")

    def fingerprint(self) -> str:
        """A SHA-256 of configuration, status, every number and array, and events: equal for bit-for-bit equal runs.

        Left out is what differs between two carryings-out of the same run: costs, times, :attr:`info`, and the events
        "resumed" and "interrupted".
        """
        digest = hashlib.sha256()
        for query in (
            "SELECT key, value FROM meta ORDER BY key",
            "SELECT step FROM step ORDER BY step",
            "SELECT step, slot, measure, note FROM reading ORDER BY step, slot",
            "SELECT step, slot, part, value, error FROM value ORDER BY step, slot, position",
            "SELECT step, slot, part, npy FROM array ORDER BY step, slot, part",
            f"SELECT step, kind, text FROM event WHERE kind NOT IN {SESSION_EVENTS} ORDER BY step, kind, text",
        ):
            with db.faults(self.path):
                for row in self._database.execute(query):
                    digest.update(repr(row).encode())
            digest.update(b"\n")
        return digest.hexdigest()

    def close(self) -> None:
        """Fold the write-ahead log into the one file and let go of it; harmless when closed already."""
        # Where folding fails (full disk, a reader at work) the log stays beside the file and nothing is lost.
        with contextlib.suppress(sqlite3.Error):
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._database.close()

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with db.faults(self.path), db.transaction(self._database):
            yield self._database

    def _rows(self, query: str, arguments: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with db.faults(self.path):
            return self._database.execute(query, arguments).fetchall()

    def _meta(self, key: str) -> str:
        return self._rows("SELECT value FROM meta WHERE key = ?", (key,))[0][0]


def _clear(database: sqlite3.Connection, step: int, measures: Sequence[str] | None) -> int:
    """Remove what a step holds, or of these ``measures`` alone; the first slot that is free then."""
    if measures is None:
        for table in db.STEP_TABLES:
            database.execute(f"DELETE FROM {table} WHERE step = ?", (step,))
        database.execute("DELETE FROM event WHERE step = ? AND noted = 0", (step,))
        return 0
    for measure in measures:
        for (slot,) in database.execute("SELECT slot FROM reading WHERE step = ? AND measure = ?", (step, measure)):
            for table in db.STEP_TABLES:
                if table != "step":
                    database.execute(f"DELETE FROM {table} WHERE step = ? AND slot = ?", (step, slot))
    return int(database.execute("SELECT ifnull(max(slot), -1) + 1 FROM reading WHERE step = ?", (step,)).fetchone()[0])


def _as_step(step: int) -> int:
    try:
        number = operator.index(step)
    except TypeError:
        number = -1
    if not 0 <= number < 2**63:
        raise InputError(f"step {step!r}", expected="a whole number from 0")
    return number


def _unknown(name: str, known: list[str]) -> UnknownNameError:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    expected = f"one of {', '.join(known)}" if known else "a record with readings"
    return UnknownNameError(
        f"no measure '{name}' in the record", expected=expected, hint=f"'{near[0]}'" if near else None
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
