"""What the user sees when something goes wrong: one line on stderr, and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

from edgescope.cli.say import say
from edgescope.disk_errors import disk_is_full, storage_error
from edgescope.errors import EdgescopeError, EdgescopeWarning
from edgescope.printable import printable
from edgescope.user_code import describe_exception

FAILED: Final = 1
REFUSED: Final = 2
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141


def guarded(work: Callable[[], int]) -> int:
    """Run ``work`` and turn whatever it raises into a line and an exit code.

    2 for what the user can mend, 1 for a fault of our own (its traceback goes into a file), 130 for Ctrl-C, 141 where
    the reader of our output has gone, as a program ended by SIGPIPE would have.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = work()
        sys.stdout.flush()
        return code
    except EdgescopeError as error:
        return _say(str(error), REFUSED)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:
        _forget_stdout()
        return BROKEN_PIPE
    except Exception as error:
        if disk_is_full(error):  # a library that knows nothing of disks may pass it on under another name
            name = getattr(error, "filename", None)
            if name is None:
                _forget_stdout()
            return _say(str(storage_error(error, Path(name or "the output"))), REFUSED)
        if isinstance(error, OSError) and error.strerror is not None and error.filename is not None:
            if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                return _say(str(storage_error(error, Path(error.filename))), REFUSED)
            return _say(f"cannot use {error.filename}: {error.strerror}", REFUSED)
        return _internal(error)


@contextlib.contextmanager
def termination_as_ctrl_c() -> Iterator[None]:
    """Have SIGTERM, with which schedulers of clusters announce that time is up, do what Ctrl-C does.

    So a run ends after the step under way, with a checkpoint. Left alone where somebody else has decided what it does.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        usual = signal.getsignal(signal.SIGINT)
        if not callable(usual):  # a shell has those that it starts in the background ignore Ctrl-C
            raise KeyboardInterrupt
        usual(signal.SIGINT, frame)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _forget_stdout() -> None:
    """What is still buffered would fail once more when Python closes stdout on its way out."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """A warning as one line of our own; those of other packages as Python shows them."""
    if issubclass(category, EdgescopeWarning):
        say(f"edgescope: warning: {message}", file=sys.stderr)
    else:
        sys.stderr.write(printable(warnings.formatwarning(message, category, filename, lineno, line), keep="\n"))


def _say(line: str, code: int) -> int:
    say(f"edgescope: {line}", file=sys.stderr)
    return code


def _internal(error: Exception) -> int:
    with contextlib.suppress(OSError):
        handle, path = tempfile.mkstemp(prefix="edgescope-", suffix=".txt")
        with open(handle, "w", encoding="utf-8") as file:
            file.write(f"{sys.argv}\n")
            traceback.print_exception(error, file=file)
        return _say(f"internal error: {describe_exception(error)}; please report it with {path}", FAILED)
    return _say(f"internal error: {describe_exception(error)}; please report it", FAILED)
