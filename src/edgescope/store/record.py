"""The record of one run: a single SQLite file that a killed process cannot damage and that others can read meanwhile.

Damage is detected: readings, arrays, events and settings have checksums, a ledger counts them (checksums.py), and a
closed record has a digest of the whole file (seal.py). One process writes at a time (lock.py); reading needs no write
permission (opening.py).
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import sqlite3
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from edgescope.errors import EdgescopeWarning, InputError, RecordError
from edgescope.faq import see
from edgescope.short_errors import short_errors
from edgescope.store import database as db
from edgescope.store import tables
from edgescope.store.appending import as_step, cells_of, forget, remove_after, write_step
from edgescope.store.cells import decode_array, encode_json
from edgescope.store.checkpoint import Checkpoint, latest_checkpoint
from edgescope.store.creation import FILE, create_record, fill
from edgescope.store.fingerprint import SESSION_EVENTS, fingerprint_of
from edgescope.store.lock import holder_of
from edgescope.store.notebook import ShownInNotebooks
from edgescope.store.opening import Opened, open_to_read
from edgescope.store.reading import RecordReader
from edgescope.store.tags import TAGS, check_tags, with_tags
from edgescope.store.writing import Transaction, Writer
from edgescope.user_code import describe_exception

if TYPE_CHECKING:  # a reader of records needs neither the measures nor the objective below them
    import polars as pl

    from edgescope.measures.reading import Reading

ENDED: Final = ("finished", "diverged")
Status = Literal["running", "finished", "diverged", "interrupted", "failed"]
State = Literal["running", "finished", "diverged", "interrupted", "failed", "abandoned"]


@short_errors
class Record(ShownInNotebooks):
    """The record of a run in ``folder/record.sqlite``.

    Every call that writes is one transaction. What was committed survives the death of the process at any moment (a
    power cut may cost the last steps). Any number of processes may read while one writes: the first call that writes
    takes the lock of the folder, and :meth:`close` gives it back. Use it as a context manager, or call :meth:`close`;
    where the block of a running record ends by an exception its status becomes "failed", by Ctrl-C "interrupted". All
    methods raise :class:`RecordError` for a full disk, a damaged file, or a record that another process writes to.
    :attr:`fault` is the last call's that could not write, None where it could.
    """

    def __init__(self, folder: Path, database: sqlite3.Connection, opened: Opened | None = None) -> None:
        self.folder, self.path = folder, folder / FILE
        self.fault: RecordError | None = None
        self._reader = RecordReader(self.path, opened, None if opened else database)
        self._writer: Writer | None = None if opened else Writer(database)  # in memory
        self._closed = False

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        *,
        config: dict[str, Any] | None = None,
        command: str | None = None,
        overwrite: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> Record:
        """A new record with its configuration (anything JSON can hold) and :attr:`info`; the folder is made.

        ``command`` is this process's command line by default; ``tags`` select runs. A folder that has a record
        or checkpoints raises :class:`RecordError` unless ``overwrite``, which removes them. The file appears whole.
        """
        writer = create_record(Path(folder), config or {}, command, overwrite, check_tags(tags))
        record = cls(Path(folder), writer.database)
        record._take(writer)
        return record

    @classmethod
    def in_memory(cls, config: dict[str, Any] | None = None, tags: Mapping[str, str] | None = None) -> Record:
        """An empty record in memory, with all methods of a record. It is lost when closed."""
        database = db.connect(Path(":memory:"))
        fill(database, config or {}, with_tags({}, check_tags(tags)))
        return cls(Path(":memory:"), database)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, touch: bool = True) -> Record:
        """The record in ``folder``, to read or to continue; :class:`RecordError` if there is none or it is damaged.

        Damage that does not affect the rows, such as altered bits outside of them or lost commits, is an
        :class:`EdgescopeWarning`. With ``touch=False`` no file is written beside it. Costs one pass over the file.
        """
        folder = Path(folder)
        path = folder / FILE
        with db.faults(path):
            if not path.is_file():
                raise RecordError(f"{folder} contains no record", expected=f"the folder of a run, with a file {FILE}")
            opened = open_to_read(path, touch=touch)
        for problem in opened.checked.problems:
            warnings.warn(f"{path}: {problem} {see('damaged-files')}", EdgescopeWarning, stacklevel=2)
        return cls(folder, opened.database, opened)

    @classmethod
    def resume(
        cls,
        folder: str | os.PathLike[str],
        *,
        step: int | None = None,
        config: dict[str, Any] | None = None,
        extend: bool = False,
    ) -> Record:
        """The record in ``folder``, to be continued: its lock is taken, it is running, with an event "resumed".

        ``step`` is where the run goes on from, by default the last step of the record. A run that has finished or
        diverged is opened and left as it is, unless ``extend``. Raises :class:`RecordError` for a record that another
        process writes to, that is damaged, or whose configuration is not ``config``, where one is given.
        """
        record = cls.open(folder)
        try:
            if config is not None:
                record.require(config)
            if record.status not in ENDED or extend:
                record.claim()
                at = (record.last_step or 0) if step is None else step
                record.note(at, "resumed", f"continued from step {at}")
                record.set_status("running")
            return record
        except BaseException:
            record.close()
            raise

    def claim(self) -> None:
        """Take the lock of the folder now, as the first call that writes would, after a check of the whole record.

        Raises :class:`RecordError` that names the process where another one writes to it.
        """
        if self._closed:
            raise db.record_error(sqlite3.ProgrammingError("closed"), self.path)
        if self._writer is None:
            writer = Writer.of(self.path)
            self._take(writer)
            for problem in writer.problems:
                if problem not in self._reader.checked.problems:
                    warnings.warn(f"{self.path}: {problem} {see('damaged-files')}", EdgescopeWarning, stacklevel=2)

    def append(
        self, step: int, readings: Iterable[Reading], events: Iterable[tuple[str, str]] = (), add: bool = False
    ) -> None:
        """Write all readings of ``step`` in one transaction; ``events`` are pairs (kind, text).

        A step written again replaces what it had, except events that :meth:`note` wrote; with ``add`` it keeps its
        other measures and events. NaN and infinities are kept.
        """
        step = as_step(step)
        cells = cells_of(step, readings)
        with self._writing() as work:
            write_step(work, step, cells, add)
            for kind, text in events:
                work.add_event(step, kind, text, noted=False)

    def remove_after(self, step: int) -> int:
        """Remove readings, arrays and events of later steps, in one transaction; the number of steps removed.

        Events about the session ("resumed", "failed", ...) are kept.
        """
        step = as_step(step)
        with self._writing() as work:
            return remove_after(work, step, SESSION_EVENTS)

    def note(self, step: int, kind: str, text: str) -> None:
        """Write an event ("diverged", "resumed", "interrupted", "stopped"); the same one twice is kept once."""
        step = as_step(step)
        with self._writing() as work:
            work.add_event(step, kind, text, noted=True)

    def set_status(self, status: Status) -> None:
        """Set the status of the run: running, finished, diverged, interrupted or failed."""
        if status not in get_args(Status):
            raise InputError(f"status '{status}'", expected=f"one of {', '.join(get_args(Status))}")
        with self._writing() as work:
            work.set("meta", "status", status)

    def end_by(self, error: BaseException) -> None:
        """Set the status after ``error``: "interrupted" for Ctrl-C, otherwise "failed", with an event that names it."""
        if isinstance(error, KeyboardInterrupt):
            self.set_status("interrupted")
            return
        self.note(self.last_step or 0, "failed", describe_exception(error))
        self.set_status("failed")

    def extend(
        self,
        config: dict[str, Any],
        step: int | None = None,
        measures: Iterable[str] = (),
        events: Iterable[Sequence[str]] = (),
    ) -> None:
        """Give the run another configuration, such as one with more steps, in one transaction.

        With ``step`` it is running again from there, and of that step only the readings of ``measures``, these
        ``events`` (kind, text) and those of ``SESSION_EVENTS`` stay.
        """
        text = encode_json(config, "the configuration")
        with self._writing() as work:
            work.set("meta", "config", text)
            if step is not None:
                forget(work, as_step(step), set(measures), {*map(tuple, events)}, SESSION_EVENTS)
                work.set("meta", "status", "running")

    def set_info(self, key: str, value: Any) -> None:
        """Add or replace an entry of :attr:`info`; ``value`` is anything JSON can hold."""
        text = encode_json(value, f"info '{key}'")
        with self._writing() as work:
            work.set("info", key, text)

    @property
    def status(self) -> Status:
        """The status of the run, as last written."""
        with self._reader.reading("settings") as database:
            return database.execute("SELECT value FROM meta WHERE key = 'status'").fetchone()[0]

    @property
    def state(self) -> State:
        """:attr:`status`, except that of a run which is "running" while no live process writes to it: "abandoned"."""
        status = self.status
        if status != "running" or self._writer is not None or self._reader.checked.schema == 1:
            return status
        holder = holder_of(self.folder)
        return status if holder is not None and holder.alive else "abandoned"

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the run, as read back from JSON (tuples become lists)."""
        with self._reader.reading("settings") as database:
            return json.loads(database.execute("SELECT value FROM meta WHERE key = 'config'").fetchone()[0])

    @property
    def info(self) -> dict[str, Any]:
        """Versions, platform, command, commit, threads, start time, and what :meth:`set_info` added."""
        with self._reader.reading("settings") as database:
            rows = database.execute("SELECT key, value FROM info ORDER BY rowid")
            return {key: json.loads(value) for key, value in rows}

    @property
    def tags(self) -> dict[str, str]:
        """The tags that the run was created with, such as its method and network; empty if there are none."""
        return check_tags(self.info.get(TAGS))

    @property
    def last_step(self) -> int | None:
        """The largest step appended so far; None in an empty record."""
        with self._reader.reading("step") as database:
            return database.execute("SELECT max(step) FROM step").fetchone()[0]

    def require(self, config: dict[str, Any]) -> None:
        """Raise :class:`RecordError` that names the first difference where the run has another configuration."""
        then, now = self.config, json.loads(encode_json(config, "the configuration"))
        for name in {**now, **then}:
            if then.get(name) != now.get(name):
                found = f"the run in {self.folder} has {name} = {then.get(name)}, not {now.get(name)}"
                raise RecordError(found, expected="the configuration it was started with", hint="another folder")

    def table(self, *measures: str) -> pl.DataFrame:
        """All scalars, or those of these ``measures``, one row a step, measure and part.

        Columns: step, measure, part, value, error, losses, gradients, products, note. The three costs stand once a
        reading, in the row of its first part (null in the others), so that sums are right. ``error`` is null where
        none is known; a reading without values has one row with a null value. Takes up to three times the memory of the
        table; :meth:`pieces` takes that of a piece.
        """
        with self._reader.reading("reading") as database:
            return tables.readings_table(tables.select_readings(database, measures))

    def pieces(self, *measures: str, rows: int = 100_000, after: int = -1) -> Iterator[pl.DataFrame]:
        """The rows of :meth:`table` of steps beyond ``after``, in pieces of whole steps of about so many ``rows``, each
        as the record has them when it is read, also while the run goes on."""
        count = max(1, rows)
        while True:
            with self._reader.reading() as database:  # each step is checked with its readings
                last = database.execute(tables.LAST_OF, (after, count)).fetchone()[0]
            if last is None:
                return
            with self._reader.reading("step", "reading", steps=(after + 1, last)) as database:
                found = tables.readings_table(tables.select_readings(database, measures, (after + 1, last)))
            if not found.is_empty():
                yield found
            count = max(1, count * rows // max(1, found.height)) if found.height > rows else count
            after = last

    def wide(self, *names: str) -> pl.DataFrame:
        """One row a step, a column a scalar, named ``measure`` or ``measure/part``.

        ``names`` choose measures or single columns, in this order; all by default. A step without that scalar has null,
        and a measure that never had a value is a column of nulls (of those not named, unless it has arrays).
        """
        with self._reader.reading() as database:
            arrays = {measure for (measure,) in database.execute(tables.WITH_ARRAYS)}
            known = [measure for (measure,) in database.execute(tables.MEASURES)]
            chosen = [m for m in known if any(name == m or name.startswith(f"{m}/") for name in names)]
            return tables.wide_table(self.table(*chosen), known, arrays, names)

    def series(self, measure: str, part: str = "") -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Steps and values of one scalar, by step; both empty where the measure has no such part.

        Raises :class:`UnknownNameError` for a measure that a record with readings does not have.
        """
        with self._reader.reading("reading", measure=measure) as database:
            steps, values = array.array("q"), array.array("d")
            for step, value in tables.select_series(database, measure, part, self._reader.is_trusted()):
                steps.append(step)
                values.append(float(value))
            if not steps:
                tables.require_measure(database, measure)
            return np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)

    def array(self, step: int, measure: str, part: str = "") -> np.ndarray:
        """The array of ``measure`` at ``step``, in its original dtype and shape."""
        with self._reader.reading("array", "reading", measure=measure) as database:
            rows = database.execute(tables.ARRAY, (as_step(step), measure, part)).fetchall()
            if rows:
                return decode_array(rows[0][0])
        raise InputError(f"no array '{measure}' with part '{part}' at step {step} in {self.path}")

    def costs(self) -> pl.DataFrame:
        """What each reading cost: step, measure, losses, gradients, products (passes over the data), seconds."""
        with self._reader.reading("reading") as database:
            return tables.costs_table(database.execute(tables.COSTS))

    def events(self) -> pl.DataFrame:
        """What happened, by step: step, kind, text, time (UTC, ISO 8601)."""
        with self._reader.reading("event") as database:
            return tables.events_table(database.execute(tables.EVENTS).fetchall())

    def fingerprint(self) -> str:
        """A SHA-256 of all results of the run, equal for runs that are equal bit for bit; see ``store.fingerprint``."""
        with self._reader.reading("settings", "step", "reading", "array", "event") as database:
            return fingerprint_of(database)

    def latest_checkpoint(self) -> Checkpoint | None:
        """As :func:`edgescope.store.latest_checkpoint`; an event says where a newer one is damaged."""
        found = latest_checkpoint(self.folder)
        if found is not None and found.notice:
            self.note(found.step, "checkpoint", found.notice)
        return found

    def close(self) -> None:
        """Merge the write-ahead log into the file, seal it, and close it; harmless if already closed."""
        if self._closed:
            return
        self._closed = True
        if self._writer is not None:
            self._writer.close(self.path)
        else:
            self._reader.close()

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._writer is not None and not self._closed:
            with contextlib.suppress(RecordError):
                if self.status == "running":
                    self.end_by(error)
        self.close()

    def _take(self, writer: Writer) -> None:
        self._writer = writer
        self._reader.read_from(writer.database)
        weakref.finalize(self, writer.release)  # of a record that nobody closes

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Transaction]:
        try:
            self.claim()
            assert self._writer is not None
            with db.faults(self.path), self._writer.transaction() as work:
                yield work
        except RecordError as error:
            self.fault = error
            raise
        self.fault = None

    @property
    def _database(self) -> sqlite3.Connection:
        return self._reader.database
