"""Runs for the tests of the live page, and an application asked without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from starlette.types import ASGIApp

from edgescope.measures.reading import Reading
from edgescope.store import Record

THRESHOLD = 20.0


def readings(step: int, spectrum: bool = False) -> list[Reading]:
    """Those of a run whose sharpness rises to its threshold."""
    sharpness = THRESHOLD * (1 - np.exp(-step / 100))
    found = [
        Reading("loss", {"train": float(np.exp(-step / 200)), "test": 1.0}),
        Reading("sharpness", {"1": sharpness, "2": sharpness / 2}),
        Reading("effective_sharpness", {"": sharpness}),
        Reading("threshold", {"": THRESHOLD}),
        Reading("ratio", {"": sharpness / THRESHOLD}),
        Reading("norms", {"l1": 3.0 + step, "l2": 1.0}),
    ]
    if spectrum:
        arrays = {"nodes": np.array([-1.0, 0.0, 5.0]), "weights": np.array([0.25, 0.5, 0.25])}
        found.append(Reading("spectrum", {"trace": 1.0}, arrays=arrays))
    return found


def begin_run(folder: Path, steps: Iterable[int], spectrum: bool = False) -> Record:
    """A record with these steps, still being written."""
    record = Record.create(folder, config={"model": "mlp", "lr": 0.1}, tags={"method": "gd"})
    for step in steps:
        record.append(step, readings(step, spectrum))
    return record


def write_run(folder: Path, steps: Iterable[int] = range(0, 500, 10), spectrum: bool = False) -> None:
    """A finished run."""
    with begin_run(folder, steps, spectrum) as record:
        record.set_status("finished")


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Times and sizes of all that lies below a folder, folders included."""
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in [folder, *folder.rglob("*")]}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


def get(app: ASGIApp, path: str, *, method: str = "GET", query: str = "", **headers: str) -> Answer:
    """What an application answers; the host is 127.0.0.1 unless given, ``_`` in names of headers stands for ``-``."""
    named = {"host": "127.0.0.1:8765"} | {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in named.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8765),
    }
    sent: list[Any] = []

    async def receive() -> Any:
        if any(message["type"] == "http.response.body" and not message.get("more_body") for message in sent):
            return {"type": "http.disconnect"}
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    start = next(message for message in sent if message["type"] == "http.response.start")
    body = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    return Answer(start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, body)
