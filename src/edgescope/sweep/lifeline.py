"""How worker processes end with their parent: they hold one end of a pipe whose other end only the parent has.

However the parent ends, by itself or by a signal that no program can catch, the system closes its end of the pipe, and
a thread in each worker that waits for that ends the worker. Linux could send a signal instead (PR_SET_PDEATHSIG), but
on the end of the thread that started the worker, not of the process, and not where the parent ends before the worker
asks for it; and no other system has it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from multiprocessing.connection import Connection

import psutil


class Lifeline:
    """The parent's end of the pipe. ``worker_end`` is pickled to the workers as they are started."""

    def __init__(self) -> None:
        self.worker_end, self._parent_end = multiprocessing.Pipe(duplex=False)

    def close(self) -> None:
        """Let go of it, which ends all workers that are left."""
        self._parent_end.close()
        self.worker_end.close()


def end_with_parent(worker_end: Connection) -> None:
    """Have this process end, at once and with all that it started, when its parent has ended."""
    threading.Thread(target=_wait_and_end, args=(worker_end,), name="edgescope-lifeline", daemon=True).start()


def _wait_and_end(worker_end: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        worker_end.recv_bytes()
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    # Not sys.exit: the main thread may be anywhere. What was committed is kept, as after any kill.
    os._exit(1)
