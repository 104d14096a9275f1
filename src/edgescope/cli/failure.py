"""What the user sees when something goes wrong: one line on stderr, and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Final

from edgescope.errors import EdgescopeError
from edgescope.user_code import named

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
        code = work()
        sys.stdout.flush()
        return code
    except EdgescopeError as error:
        return _say(str(error), REFUSED)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # What is still buffered would fail once more when Python closes stdout on its way out.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        if error.strerror is None or error.filename is None:
            return _internal(error)
        return _say(f"cannot use {error.filename}: {error.strerror}", REFUSED)
    except Exception as error:
        return _internal(error)


def _say(line: str, code: int) -> int:
    print(f"edgescope: {line}", file=sys.stderr)
    return code


def _internal(error: Exception) -> int:
    with contextlib.suppress(OSError):
        handle, path = tempfile.mkstemp(prefix="edgescope-", suffix=".txt")
        with open(handle, "w", encoding="utf-8") as file:
            file.write(f"{sys.argv}\n")
            traceback.print_exception(error, file=file)
        return _say(f"internal error: {named(error)}; please report it with {path}", FAILED)
    return _say(f"internal error: {named(error)}; please report it", FAILED)
