"""Records and checkpoints as the first version wrote them, for tests."""

from __future__ import annotations

import json
import sqlite3
import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE info (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE step (step INTEGER PRIMARY KEY);
CREATE TABLE reading (step INTEGER, slot INTEGER, measure TEXT NOT NULL, note TEXT NOT NULL,
                      PRIMARY KEY (step, slot)) WITHOUT ROWID;
CREATE TABLE value (step INTEGER, slot INTEGER, position INTEGER, part TEXT NOT NULL, value, error,
                    PRIMARY KEY (step, slot, position)) WITHOUT ROWID;
CREATE TABLE array (step INTEGER, slot INTEGER, part TEXT NOT NULL, npy BLOB NOT NULL,
                    PRIMARY KEY (step, slot, part));
CREATE TABLE timing (step INTEGER, slot INTEGER, losses INTEGER NOT NULL, gradients INTEGER NOT NULL,
                     products INTEGER NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (step, slot)) WITHOUT ROWID;
CREATE TABLE event (step INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL, noted INTEGER NOT NULL,
                    time TEXT NOT NULL, UNIQUE (step, kind, text));
PRAGMA application_id = 1164207973;
PRAGMA user_version = 1;
INSERT INTO meta VALUES ('config', '{"lr": 0.1}'), ('status', 'interrupted');
INSERT INTO info VALUES ('torch', '"2.9"'), ('seconds', '3.5');
"""


def write_record(folder: Path, arrays: dict[int, bytes]) -> None:
    """Steps 0 to 4, with a measure of two parts, one without values, and at some steps an array (npy bytes)."""
    folder.mkdir(parents=True)
    database = sqlite3.connect(folder / "record.sqlite")
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(TABLES)
    for step in range(5):
        database.execute("INSERT INTO step VALUES (?)", (step,))
        readings = [(step, 0, "pair", "η"), (step, 1, "nothing", "not today")]
        database.executemany("INSERT INTO reading VALUES (?, ?, ?, ?)", readings)
        rows = [(step, 0, 0, "1", step / 3, 1e-3), (step, 0, 1, "2", "nan" if step == 3 else -0.0, None)]
        database.executemany("INSERT INTO value VALUES (?, ?, ?, ?, ?, ?)", rows)
        timing = [(step, 0, 1, 2, 3 + step, 0.25), (step, 1, 0, 0, 0, 0.0)]
        database.executemany("INSERT INTO timing VALUES (?, ?, ?, ?, ?, ?)", timing)
        database.execute("INSERT INTO event VALUES (?, 'stopped', 'x', 0, '2025-01-01T00:00:00.000+00:00')", (step,))
    rows = [(step, 0, "", npy) for step, npy in arrays.items()]
    database.executemany("INSERT INTO array VALUES (?, ?, ?, ?)", rows)
    database.commit()
    database.close()


def write_checkpoint(folder: Path, step: int, tensors: dict[str, torch.Tensor]) -> Path:
    """With a checksum of each tensor alone."""
    path = folder / "checkpoints" / f"step-{step:010d}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    sums = {name: zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data) for name, tensor in tensors.items()}
    save_file(tensors, path, {"edgescope": json.dumps({"step": step, "meta": {"epoch": step}, "checksums": sums})})
    return path
