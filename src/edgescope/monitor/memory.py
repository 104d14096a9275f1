"""A record that lives in memory, for a monitor that writes no folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgescope.store import Record
from edgescope.store import database as db
from edgescope.store.cells import encode_json


def record_in_memory(config: dict[str, Any]) -> Record:
    """An empty record with everything a record can do, except that it is gone when closed."""
    path = Path(":memory:")
    database = db.connect(path)
    db.lay_out(database)
    settings = [("config", encode_json(config, "the configuration")), ("status", "running")]
    database.executemany("INSERT INTO meta VALUES (?, ?)", settings)
    return Record(path, database)
