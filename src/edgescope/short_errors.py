"""Errors of this package as a caller sees them: his own lines, and one of ours."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from edgescope.errors import EdgescopeError

T = TypeVar("T", bound=Callable[..., Any])

FULL: Final = "EDGESCOPE_TRACEBACK"
"""Set to "full" in the environment, this variable leaves all frames in."""

_PACKAGES: Final = ("edgescope", "torch", "jaxtyping")
"""Packages whose frames say nothing to the caller: this one, torch, and the checks of annotations, if switched on."""


def short_errors(thing: T) -> T:
    """Let an :class:`EdgescopeError` leave a function, or the public methods of a class, without the frames inside.

    What such an error says is in its one line; the frames between the caller and the check that failed say nothing
    more. Its cause stays where code of the caller's own (a loss function, a model) raised it, with those frames alone.
    """
    if not inspect.isclass(thing):
        return _shortened(thing)
    short_construction(thing)
    for name, member in list(vars(thing).items()):
        if name.startswith("_") and name not in ("__getitem__", "__iter__", "__enter__", "__exit__"):
            continue
        if inspect.isfunction(member):
            setattr(thing, name, _shortened(member))
        elif isinstance(member, classmethod):
            setattr(thing, name, classmethod(_shortened(member.__func__)))
        elif isinstance(member, property) and member.fget is not None:
            setattr(thing, name, member.getter(_shortened(member.fget)))
    return thing


def short_construction(thing: type[Any]) -> None:
    """Let errors leave the constructor of a class, such as a dataclass that checks its options, in the same way."""
    made = vars(thing).get("__init__")
    if made is not None and not hasattr(made, "_shortened"):
        thing.__init__ = _shortened(made)


def _shortened(function: T) -> T:
    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except EdgescopeError as error:
            if os.environ.get(FULL) == "full":
                raise
            _shorten(error)
            raise error.with_traceback(None)  # noqa: B904

    call._shortened = True  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


def _shorten(error: EdgescopeError) -> None:
    cause = error.__cause__
    frames = None if cause is None else _of_the_caller(cause.__traceback__)
    if cause is None or frames is None:
        error.__cause__ = None  # which also hides the context
    else:
        cause.__traceback__ = frames
        cause.__suppress_context__ = True


def _of_the_caller(trace: TracebackType | None) -> TracebackType | None:
    """The frames that are neither of this package nor of torch; None where there are none below the first of ours."""
    # A package that was never imported has no frames. Those of context managers are there on the way out.
    files = [getattr(sys.modules.get(name), "__file__", None) for name in _PACKAGES]
    inside = (*(str(Path(file).parent) for file in files if file), contextlib.__file__)
    kept: list[TracebackType] = []
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(inside):
            kept.append(trace)
        trace = trace.tb_next
    found: TracebackType | None = None
    for one in reversed(kept):
        found = TracebackType(found, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return found
