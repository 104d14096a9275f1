"""What two carryings-out of the same run have in common, as one number."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Final

SESSION_EVENTS: Final = ("resumed", "interrupted", "failed", "lock", "damage", "checkpoint")
"""Kinds of events that say how a run was carried out, not what it found."""

_QUERIES: Final = (
    "SELECT key, value FROM meta ORDER BY key",
    "SELECT step FROM step ORDER BY step",
    "SELECT step, slot, measure, note FROM reading ORDER BY step, slot",
    "SELECT step, slot, part, value, error FROM value ORDER BY step, slot, position",
    "SELECT step, slot, part, npy FROM array ORDER BY step, slot, part",
    f"SELECT step, kind, text FROM event WHERE kind NOT IN {SESSION_EVENTS} ORDER BY step, kind, text",
)


def fingerprint_of(database: sqlite3.Connection) -> str:
    """A SHA-256 of all rows of a record but costs, times, info, checksums and the events of ``SESSION_EVENTS``."""
    digest = hashlib.sha256()
    for query in _QUERIES:
        for row in database.execute(query):
            digest.update(repr(row).encode())
        digest.update(b"\n")
    return digest.hexdigest()
