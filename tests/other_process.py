"""Another process that holds the record of a run until it is killed, for tests."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_HOLDS = """
import sys
from pathlib import Path
from edgescope.store.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.committed(int(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
lock.release()
"""


@contextlib.contextmanager
def holding_lock(folder: Path, commits: int = 0) -> Iterator[subprocess.Popen[str]]:
    """A process that has the lock of ``folder``, with so many commits; killed at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(folder), str(commits)], stdin=-1, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
