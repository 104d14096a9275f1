"""What can go wrong, said in one line that names the fault, what was expected and what to try."""

from __future__ import annotations

from collections.abc import Sequence

from edgescope.near_names import suggestion
from edgescope.printable import printable


class EdgescopeError(Exception):
    """Base of every error that Edgescope raises on purpose; the command line prints it as one line, exit code 2.

    :attr:`what` is what went wrong, :attr:`expected` what was expected and :attr:`hint` what to try, empty where that
    is not said. Names in them that a terminal would carry out are written out, as
    :func:`edgescope.printable.printable` does.
    """

    def __init__(self, what: str, *, expected: str | None = None, hint: str | None = None) -> None:
        self.what, self.expected, self.hint = (printable(" ".join((x or "").split())) for x in (what, expected, hint))
        parts = [what.rstrip(".")]
        if expected:
            parts.append(f"expected {expected.rstrip('.')}")
        if hint:
            parts.append(f"try {hint.rstrip('.')}")
        super().__init__(printable(" ".join("; ".join(parts).split())))


class InputError(EdgescopeError, ValueError):
    """An argument, a configuration or data that cannot be used."""


class UnknownNameError(InputError):
    """A name that no registry knows; the message suggests the nearest."""


class NotDeterministicError(EdgescopeError):
    """The loss is not a function of the parameters alone (dropout, sampling, batch statistics that move)."""


class NotDifferentiableError(EdgescopeError):
    """An operation in the model has no second derivative on the path that was asked for; the message names it."""


class MemoryBudgetError(EdgescopeError, MemoryError):
    """A measurement would need more memory than there is; the message names both figures."""


class NotKnownError(EdgescopeError):
    """Something that has no known answer, such as the preconditioner of an optimizer nobody described."""


class MissingExtraError(EdgescopeError, ImportError):
    """A package is not installed that only this part of the library needs; the message says how to install it."""


class RecordError(EdgescopeError):
    """A file of a run cannot be written or read, or is not whole."""


class DiskFullError(RecordError):
    """A disk is full, or a quota used up, while something is written."""


class ModelChangedError(InputError):
    """The model's trainable parameters are no longer those that an objective was made for."""


class EdgescopeWarning(UserWarning):
    """A figure that may not mean what its reader expects, and why; given once for each cause."""


def one_of(value: object, known: Sequence[str], what: str) -> None:
    """Raise :class:`UnknownNameError`, which suggests the nearest, unless ``value`` is one of the ``known`` words."""
    if value not in known:
        raise UnknownNameError(
            f"unknown {what} {value!r}", expected=f"one of {', '.join(known)}", hint=suggestion(value, known)
        )
