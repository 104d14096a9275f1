"""Two processes of a test that work together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run_two_workers(program: str, folder: Path) -> None:
    """Run ``program`` as two processes with the arguments RANK FOLDER; an error where one of them fails."""
    path = folder / "worker.py"
    path.write_text(program)
    command = [sys.executable, str(path)]
    workers = [
        subprocess.Popen([*command, str(rank), str(folder)], stderr=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    said = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
