"""One run as the page reads it: whole at first, and later what its process has added since."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from edgescope.board.folder import Stamp, is_inside, stamp_of
from edgescope.errors import EdgescopeError, EdgescopeWarning, RecordError
from edgescope.monitor.run_facts import MEASURES, RunFacts
from edgescope.store import Record
from edgescope.store.database import faults
from edgescope.store.lock import holder_of
from edgescope.store.opening import open_unchecked
from edgescope.store.record import FILE

SCALARS: Final = {"step": pl.Int64, "measure": pl.String, "part": pl.String, "value": pl.Float64}
JUDGED: Final = SCALARS | {"note": pl.String}

ROWS: Final = 100_000
"""Rows of a record that are read in one piece."""

MOST_CHUNKS: Final = 64
"""Pieces of a table from which on they are joined."""


@dataclass(frozen=True)
class RunContents:
    """What was read of a run: its settings, the values of all measures, and what a verdict on it rests on.

    ``scalars`` has the columns step, measure, part, value; ``state`` is that of the record, or "damaged" with the
    ``fault`` in one line.
    """

    state: str
    config: dict[str, Any]
    info: dict[str, Any]
    scalars: pl.DataFrame
    facts: RunFacts | None
    fault: str = ""


class RunReader:
    """Reads the record in ``place``, which has to lie in ``folder``; it never writes. Safe to use in several threads.

    ``stamp`` is that of the files when their reader last noted it; ``behind``: there was more than was to be read. Of
    a run in progress only new steps are read after the first time: of those read before only the last may have got
    more. All is read again where the run went back to an earlier step, and when it has ended. Nothing stays open
    between two calls: a record that its process closes while somebody reads it is not sealed.
    """

    def __init__(self, place: Path, folder: Path) -> None:
        self.place, self.folder = place, folder
        self.stamp: Stamp | None = None
        self.behind = False
        self._guard = threading.Lock()
        self._file: int | None = None  # the inode of a record in progress, where it was read before
        self._kept, self._sessions = _Table(), 0

    def has_changed(self, running: bool) -> bool:
        """Whether there is something new to read. Of a run last seen ``running`` its process may have ended, too."""
        if self.behind or stamp_of(self.place) != self.stamp:
            return True
        if not running:
            return False
        holder = holder_of(self.place)
        return holder is None or not holder.alive

    def note_stamp(self) -> None:
        """Remember the files as they are now, for :meth:`has_changed`; to be called before :meth:`read`."""
        self.stamp = stamp_of(self.place)

    def read(self, most: int | None = None) -> RunContents:
        """All that the run has now. Costs one pass over a record read for the first time, then over what is new.

        With ``most`` about so many new rows are read at most, and :attr:`behind` says whether there are more. A run in
        progress has no seal, so that each of its rows is checked, which takes most of the time.
        """
        with self._guard:
            try:
                return self._read(most)
            except (EdgescopeError, OSError) as error:
                self._forget()
                return RunContents("damaged", {}, {}, pl.DataFrame(schema=SCALARS), None, str(error))

    @contextmanager
    def opened(self) -> Iterator[Record]:
        """The record itself, for arrays; raises :class:`RecordError` for one that cannot be read."""
        with self._guard, self._open() as record:
            yield record

    def _read(self, most: int | None) -> RunContents:
        file = stamp_of(self.place)[0][2]
        if file != self._file:
            self._forget()
        holder = holder_of(self.place)
        if holder is None or not holder.alive:
            most = None  # what a killed process left is read from a copy, which is made once
        with self._open() as record:
            events = record.events()
            sessions = events.filter(pl.col("kind") == "resumed").height
            if sessions != self._sessions:
                self._kept = _Table()
            if not self._kept.extend(record, most) and self._kept.last >= 0:  # the last step is gone
                self._kept = _Table()
                self._kept.extend(record, most)
            self.behind = self._kept.behind
            state, config, info, status = record.state, record.config, record.info, record.status
        contents = RunContents(
            state, config, info, self._kept.scalars, RunFacts(self._kept.judged, events, info, status)
        )
        self._file, self._sessions = file, sessions
        if state != "running" and not self.behind:
            self._forget()
        return contents

    def _open(self) -> Record:
        """The record; of one that was whole a moment ago only the rows that are read are checked."""
        path = self.place / FILE
        if not is_inside(self.place, self.folder):
            raise RecordError(f"{self.place} leads out of {self.folder}", expected="a run inside that folder")
        if self._file is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EdgescopeWarning)  # `edgescope verify` tells; rows are checked anyway
                return Record.open(self.place, touch=False)
        with faults(path):
            opened = open_unchecked(path)
        return Record(self.place, opened.database, opened)

    def _forget(self) -> None:
        self._file, self._kept, self._sessions, self.behind = None, _Table(), 0, False


class _Table:
    """The readings of a run up to a step, and those of that ``last`` step, which may not be complete yet.

    ``behind``: there may be more than were to be read.
    """

    def __init__(self) -> None:
        self.last, self.behind = -1, False
        self._before = [pl.DataFrame(schema=SCALARS), pl.DataFrame(schema=JUDGED)]
        self._at_last = list(self._before)

    @property
    def scalars(self) -> pl.DataFrame:
        return pl.concat([self._before[0], self._at_last[0]], rechunk=False)

    @property
    def judged(self) -> pl.DataFrame:
        return pl.concat([self._before[1], self._at_last[1]], rechunk=False)

    def extend(self, record: Record, most: int | None) -> bool:
        """Read the steps from the last one on, about ``most`` rows of them at most; whether there were any."""
        found, rows, self.behind = [], 0, False
        # A piece has so many steps at first; steps have several rows.
        for piece in record.pieces(after=self.last - 1, rows=ROWS if most is None else max(2, most // 10)):
            found.append(_split(piece))
            rows += piece.height
            if most is not None and rows >= most:
                self.behind = True  # perhaps
                break
        if not found:
            return False
        new = [pl.concat([pieces[kind] for pieces in found]) for kind in (0, 1)]
        last = max(self.last, *(int(table["step"].to_numpy().max()) for table in new if table.height), -1)
        for kind, table in enumerate(new):
            joined = pl.concat([self._before[kind], table.filter(pl.col("step") < last)], rechunk=False)
            self._before[kind] = joined.rechunk() if joined.n_chunks() > MOST_CHUNKS else joined
            self._at_last[kind] = table.filter(pl.col("step") == last)
        self.last = last
        return True


def _split(piece: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    scalars = piece.filter(pl.col("value").is_not_null()).select(list(SCALARS))
    return scalars, piece.filter(pl.col("measure").is_in(MEASURES)).select(list(JUDGED))
