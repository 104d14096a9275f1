"""One piece of work in one folder: how it is carried out, says how far it is, and how its end is kept."""

from __future__ import annotations

import contextlib
import json
import re
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from joblib.externals.loky.process_executor import TerminatedWorkerError

from edgescope.errors import EdgescopeError
from edgescope.store import Record

POLL_SECONDS: Final = 0.2


class Task(Protocol):
    """One piece of work that keeps all it makes in one folder and continues from what it finds there.

    ``cost`` weighs it in the progress of the whole and decides the order (any unit). ``run`` calls ``progress`` with
    the fraction done (0 to 1) and a few words, as often as it likes.
    A task is pickled: it holds descriptions, no models.
    """

    @property
    def name(self) -> str: ...

    @property
    def cost(self) -> float: ...

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """How one task ended. ``skipped``: it had ended in an earlier sweep. ``seconds`` it took (then, if skipped)."""

    name: str
    folder: Path
    status: Literal["finished", "diverged", "failed", "interrupted", "skipped"]
    seconds: float
    error: str | None = None


def carry_out_task(task: Task, folder: Path, tell: Callable[[], None] | None = None) -> Outcome:
    """Run ``task`` in ``folder`` and keep how it ended there; ``tell`` is called a few times a second."""
    started = time.monotonic()
    status: Literal["finished", "diverged", "failed"] = "finished"
    error = None
    try:
        task.run(folder, Reporter(folder, tell))
        if (folder / "record.sqlite").exists():
            with Record.open(folder) as record:
                status = "diverged" if record.status == "diverged" else "finished"
    except (Exception, SystemExit) as fault:
        status, error = "failed", one_line(fault)
        with contextlib.suppress(OSError):
            (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
    outcome = Outcome(task.name, folder, status, time.monotonic() - started, error)
    conclude(outcome)
    return outcome


def conclude(outcome: Outcome) -> None:
    """Keep an outcome in its folder, for ``resume``; a record that was running gets its status."""
    # On a full disk neither can be written; the run is then taken up again by the next --resume, which is right.
    with contextlib.suppress(EdgescopeError, OSError):
        write_json(outcome.folder / "outcome.json", asdict(outcome) | {"folder": str(outcome.folder)})
        if outcome.status in ("failed", "interrupted") and (outcome.folder / "record.sqlite").exists():
            with Record.open(outcome.folder) as record:
                if record.status == "running":
                    record.set_status(outcome.status)


def ended_before(name: str, folder: Path) -> Outcome | None:
    """The outcome, as skipped, of a task that has finished or diverged in this folder."""
    past = read_json(folder / "outcome.json")
    if past.get("status") not in ("finished", "diverged"):
        return None
    return Outcome(name, folder, "skipped", float(past.get("seconds", 0.0)))


class Reporter:
    """What a task calls with its progress: keeps it in a small file in the folder, a few times a second at most."""

    def __init__(self, folder: Path, tell: Callable[[], None] | None) -> None:
        self._path = folder / "progress.json"
        self._tell = tell
        self._next = 0.0

    def __call__(self, fraction: float, text: str = "") -> None:
        now = time.monotonic()
        if now < self._next and fraction < 1:
            return
        self._next = now + POLL_SECONDS
        with contextlib.suppress(OSError):  # progress is not worth a run
            write_json(self._path, {"fraction": min(max(float(fraction), 0.0), 1.0), "text": text})
        if self._tell:
            self._tell()


def one_line(fault: BaseException) -> str:
    """What went wrong, for an outcome."""
    if isinstance(fault, EdgescopeError):
        return str(fault)
    text = " ".join(str(fault).split())
    if isinstance(fault, TerminatedWorkerError):
        codes = re.search(r"\{(.*?)\}", text)
        how = f" ({codes[1]})" if codes else ""
        return f"its process died{how}; try --resume, with fewer jobs if memory ran out"
    return f"{type(fault).__name__}: {text}" if text else type(fault).__name__


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a small file aside and rename it, so that no reader sees half of it."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(json.dumps(content), encoding="utf-8")
    aside.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """A small file's content; empty where there is none or it is not whole."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
