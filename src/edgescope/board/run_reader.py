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
from edgescope.store.lock import holder_of

SCALARS: Final = {"step": pl.Int64, "measure": pl.String, "part": pl.String, "value": pl.Float64}
JUDGED: Final = SCALARS | {"note": pl.String}

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

    ``stamp`` is that of the files when their reader last noted it.

    The record of a run in progress stays open between two calls of :meth:`read`, and only new steps are read: of a step
    read before only the last may have got more. All is read again where the run went back to an earlier step, and when
    it has ended.
    """

    def __init__(self, place: Path, folder: Path) -> None:
        self.place, self.folder = place, folder
        self.stamp: Stamp | None = None
        self._guard = threading.Lock()
        self._record: Record | None = None
        self._sessions = 0
        self._kept = _Table()

    def has_changed(self, running: bool) -> bool:
        """Whether there is something new to read. Of a run last seen ``running`` its process may have ended, too."""
        if stamp_of(self.place) != self.stamp:
            return True
        if not running:
            return False
        holder = holder_of(self.place)
        return holder is None or not holder.alive

    def note_stamp(self) -> None:
        """Remember the files as they are now, for :meth:`has_changed`; to be called before :meth:`read`."""
        self.stamp = stamp_of(self.place)

    def read(self) -> RunContents:
        """All that the run has now. Costs one pass over a record read for the first time, then over what is new."""
        with self._guard:
            try:
                return self._read()
            except (EdgescopeError, OSError) as error:
                self._close()
                return RunContents("damaged", {}, {}, pl.DataFrame(schema=SCALARS), None, str(error))

    @contextmanager
    def opened(self) -> Iterator[Record]:
        """The record itself, for arrays; raises :class:`RecordError` for one that cannot be read."""
        with self._guard:
            if self._record is not None:
                yield self._record
                return
            with self._open() as record:
                yield record

    def close(self) -> None:
        """Close the record, and forget what was read of it."""
        with self._guard:
            self._close()
            self.stamp = None

    def _read(self) -> RunContents:
        record = self._record or self._open()
        self._record = record
        events, last = record.events(), record.last_step
        sessions = events.filter(pl.col("kind") == "resumed").height
        if sessions != self._sessions or (last if last is not None else -1) < self._kept.last:
            self._kept = _Table()
        self._sessions = sessions
        self._kept.extend(record)
        state, config, info = record.state, record.config, record.info
        facts = RunFacts(self._kept.judged, events, info, record.status)
        contents = RunContents(state, config, info, self._kept.scalars, facts)
        if state != "running":
            self._close()
        return contents

    def _open(self) -> Record:
        if not is_inside(self.place, self.folder):
            raise RecordError(f"{self.place} leads out of {self.folder}", expected="a run inside that folder")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EdgescopeWarning)  # `edgescope verify` tells; rows are checked all the same
            return Record.open(self.place, touch=False)

    def _close(self) -> None:
        if self._record is not None:
            self._record.close()
        self._record, self._kept, self._sessions = None, _Table(), 0


class _Table:
    """The readings of a run up to a step, and those of that last step, which may not be complete yet."""

    def __init__(self) -> None:
        self.last = -1
        self._before = [pl.DataFrame(schema=SCALARS), pl.DataFrame(schema=JUDGED)]
        self._at_last = list(self._before)

    @property
    def scalars(self) -> pl.DataFrame:
        return pl.concat([self._before[0], self._at_last[0]], rechunk=False)

    @property
    def judged(self) -> pl.DataFrame:
        return pl.concat([self._before[1], self._at_last[1]], rechunk=False)

    def extend(self, record: Record) -> None:
        """Read the steps from the last one on."""
        found = [_split(piece) for piece in record.pieces(after=self.last - 1)]
        if not found:
            return
        new = [pl.concat([pieces[kind] for pieces in found]) for kind in (0, 1)]
        last = max(self.last, *(int(table["step"].to_numpy().max()) for table in new if table.height), -1)
        for kind, table in enumerate(new):
            joined = pl.concat([self._before[kind], table.filter(pl.col("step") < last)], rechunk=False)
            self._before[kind] = joined.rechunk() if joined.n_chunks() > MOST_CHUNKS else joined
            self._at_last[kind] = table.filter(pl.col("step") == last)
        self.last = last


def _split(piece: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    scalars = piece.filter(pl.col("value").is_not_null()).select(list(SCALARS))
    return scalars, piece.filter(pl.col("measure").is_in(MEASURES)).select(list(JUDGED))
