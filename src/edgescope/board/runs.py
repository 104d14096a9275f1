"""All runs below a folder, read in the background, with a version that counts what has changed."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Final

import polars as pl

from edgescope.board.folder import last_change, listed
from edgescope.board.run_reader import RunContents, RunReader
from edgescope.board.summary import UNREAD, RunSummary, summary_of
from edgescope.errors import UnknownNameError
from edgescope.near_names import suggestion
from edgescope.printable import printable_names

POLL_SECONDS: Final = 1.0
"""Between two looks at the files of all runs."""

LIST_SECONDS: Final = 3.0
"""Between two looks for new runs."""

SHARE: Final = 0.2
"""Of one core that following the runs may take, once all have been read."""

TURN_SECONDS: Final = 0.5
"""After which runs in progress come first again while many others are being read."""

MOST_AT_ONCE: Final = 50_000
"""Rows of a run that are read before the page shows them, and other runs have their turn."""

MOST_KEPT: Final = 5_000_000
"""Readings of ended runs that are kept in memory for the charts."""


class Runs:
    """The runs below ``folder``: their rows for the list, and the readings of those that are drawn.

    :meth:`start` reads them in a thread: first those that have changed last, then, as long as it runs, what is added.
    Nothing is ever written. ``version`` grows with every change of a row.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = 0
        self._places: dict[str, Path] = {}
        self._readers: dict[Path, RunReader] = {}
        self._rows: dict[str, tuple[int, RunSummary]] = {}
        self._live: dict[str, RunContents] = {}
        self._kept: OrderedDict[str, pl.DataFrame] = OrderedDict()
        self._guard = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._listed = -LIST_SECONDS
        self.look_for_runs()

    def start(self) -> None:
        """Read the runs in the background."""
        self._thread = threading.Thread(target=self._follow, name="edgescope-board", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def rows(self, since: int = -1) -> list[RunSummary]:
        """The rows that have changed after this version, in the order of their names."""
        with self._guard:
            changed = [(name, row) for name, (version, row) in self._rows.items() if version > since]
        return [row for _, row in sorted(changed, key=lambda pair: pair[0])]

    @property
    def names(self) -> list[str]:
        """The names of all runs, as they are shown."""
        return list(self._places)

    def scalars(self, name: str) -> pl.DataFrame:
        """Step, measure, part and value of all readings of a run, by step; empty for a damaged record.

        Raises :class:`UnknownNameError`.
        """
        reader = self.reader(name)
        with self._guard:
            if name in self._live:
                return self._live[name].scalars
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        contents = reader.read()
        self._keep(name, contents)
        return contents.scalars

    def reader(self, name: str) -> RunReader:
        """The reader of a run; :class:`UnknownNameError` for a name that the list does not have."""
        place = self._places.get(name)
        if place is None:
            known = self.names
            raise UnknownNameError(f"no run '{name}' on this page", hint=suggestion(name, known) if known else None)
        return self._readers[place]

    # ------------------------------------------------------------------------------------------- what the thread does

    def look_for_runs(self) -> None:
        """Find new runs, and forget those that are gone."""
        self._listed = time.monotonic()
        found = listed(self.folder)
        own = self.folder.resolve().name or "run"
        names = printable_names(name or own for name in found)
        with self._guard:
            self._places = dict(zip(names, found.values(), strict=True))
            for name, place in self._places.items():
                if place not in self._readers:
                    self._readers[place] = RunReader(place, self.folder)
                    self._set(RunSummary(name, UNREAD, last_change(place)))
            there = set(self._places.values())
            for place in [place for place in self._readers if place not in there]:
                del self._readers[place]
            gone = [name for name in self._rows if name not in self._places]
            for name in gone:
                for known in (self._rows, self._live, self._kept):
                    known.pop(name, None)
            self.version += bool(gone)

    def read_changed(self, seconds: float = float("inf")) -> int:
        """Read the runs that have changed, those in progress first, for so many seconds; how many are left to read."""
        end = time.monotonic() + seconds
        changed = [
            name
            for name, place in self._places.items()
            if self._readers[place].has_changed(self._rows[name][1].state == "running")
        ]
        changed.sort(key=lambda name: (name not in self._live, -last_change(self._places[name])))
        left = len(changed)
        for name in changed:
            if self._stop.is_set() or time.monotonic() > end:
                break
            self._read(name)
            left -= 1
        return left

    def _read(self, name: str) -> None:
        reader = self.reader(name)
        reader.note_stamp()
        contents = reader.read(MOST_AT_ONCE)
        row = summary_of(name, self._places[name], contents)
        with self._guard:
            self._set(row)
            self._live.pop(name, None)
            self._kept.pop(name, None)
            if row.state == "running" or reader.behind:
                self._live[name] = contents

    def _follow(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            if began - self._listed >= LIST_SECONDS:
                self.look_for_runs()
            if self.read_changed(TURN_SECONDS):
                continue
            spent = time.monotonic() - began
            self._stop.wait(max(POLL_SECONDS, spent / SHARE))

    def _set(self, row: RunSummary) -> None:
        if row != self._rows.get(row.name, (0, None))[1]:
            self.version += 1
            self._rows[row.name] = self.version, row

    def _keep(self, name: str, contents: RunContents) -> None:
        with self._guard:
            self._kept[name] = contents.scalars
            while len(self._kept) > 1 and sum(table.height for table in self._kept.values()) > MOST_KEPT:
                self._kept.popitem(last=False)
