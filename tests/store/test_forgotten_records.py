"""Records that nobody closes: their connections are closed when they are collected, without a warning."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from edgescope.measures import Reading
from edgescope.store import Record
from edgescope.store import database as db
from edgescope.store.lock import FILE

LOSS = [Reading("loss", {"": 1.0})]
WAYS: dict[str, Callable[[Path], Record]] = {
    "in memory": lambda folder: Record.in_memory(),
    "created": lambda folder: Record.create(folder / "new"),
    "opened": lambda folder: Record.open(folder),
    "resumed": lambda folder: Record.resume(folder),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("writes", [False, True])
def test_every_connection_is_closed(way: str, writes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    Record.create(folder).close()
    made: list[sqlite3.Connection] = []
    connect = db.connect
    monkeypatch.setattr(db, "connect", lambda *given: made.append(connect(*given)) or made[-1])
    record = WAYS[way](folder)
    if writes:
        record.append(0, LOSS)
    assert record.series("loss")[0].tolist() == ([0] if writes else [])
    del record
    gc.collect()
    assert made
    for database in made:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            database.execute("SELECT 1")
    assert not list(tmp_path.rglob(FILE))
