"""Two processes of a test that work together."""

from __future__ import annotations

from pathlib import Path

from warm_process import WarmProcess


def run_two_workers(python: WarmProcess, program: str, folder: Path) -> None:
    """Run ``program`` as two processes with the arguments RANK FOLDER; an error where one of them fails."""
    path = folder / "worker.py"
    path.write_text(program)
    python.run("pair", str(folder), str(path))
