"""What can go wrong, said in one line that names the fault, what was expected and what to try."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class EdgescopeError(Exception):
    """Base of every error that Edgescope raises on purpose; the command line prints it as one line, exit code 2."""

    def __init__(self, what: str, *, expected: str | None = None, hint: str | None = None) -> None:
        parts = [what.rstrip(".")]
        if expected:
            parts.append(f"expected {expected.rstrip('.')}")
        if hint:
            parts.append(f"try {hint.rstrip('.')}")
        super().__init__(" ".join("; ".join(parts).split()))


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


class RecordError(EdgescopeError):
    """A run's record cannot be written, or what lies on disk is not a readable record."""


def one_of(value: object, known: Sequence[str], what: str) -> None:
    """Raise :class:`UnknownNameError`, which suggests the nearest, unless ``value`` is one of the ``known`` words."""
    if value not in known:
        near = difflib.get_close_matches(str(value), known, n=1, cutoff=0.5)
        raise UnknownNameError(
            f"unknown {what} {value!r}", expected=f"one of {', '.join(known)}", hint=f"'{near[0]}'" if near else None
        )
