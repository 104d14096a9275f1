"""Comparing a derivative with finite differences of its function, at a point that may be a kink."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Verdict = Literal["agrees", "differs", "open"]

STEPS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
"""Sizes of the difference quotients, relative to the length of the point: the smallest steps over no kink (ReLU), the
largest is above the rounding of models that compute in single precision inside, whatever they are given."""

_TIGHT = 1e-6  # of a part of the quotient, what it may be off beside its own error
_SHARP = 1e-5  # of a quotient: the rounding of one that tells by itself
_COARSE = 1e-2  # of a quotient: its error, where it is to be trusted; what a derivative may be off where none is
_ERRORS = 10  # what a derivative may be off, in errors of a quotient: the error is estimated from a single other one
_PROOF = 1000  # the same, where a quotient is to prove that it is wrong
_SAME = 0.1  # of what a derivative is off: quotients to the left and right that differ less are the same
_ROUNDINGS = 100  # of a function's value, in a difference of two


def judge(
    function: Callable[[float], Tensor],
    found: Tensor,
    parts: Sequence[slice],
    *,
    length: float,
    rounding: float,
) -> Verdict:
    """Whether ``found`` is the derivative at 0 of a vector that ``function`` gives along a line.

    Central quotients at steps of ``length`` times :data:`STEPS`; the error of one is its distance from the next. It
    "agrees" where each of the ``parts`` lies within a millionth of one, or within ten errors of it, and "differs" where
    a part is a thousand errors off although the function is smooth: quotients to the left and to the right are the
    same, which they are not at a kink. Where quotients do not settle (kinks all about, values rounded to single
    precision) 1% of one makes it agree, and more leaves it "open". ``rounding`` is that of a value of the function.

    Cost: two to four values where it agrees, up to ten where it is open, and four more to see that it differs.
    """

    def sizes(vector: Tensor) -> Tensor:
        return torch.stack([vector[part].double().norm() for part in parts])

    def quotient(step: float) -> _Quotient:
        value = (function(step) - function(-step)).div_(2 * step)
        off = found - value
        return _Quotient(
            step, value, sizes(value), _ROUNDINGS * rounding / step, sizes(off), float(off.norm()), float(value.norm())
        )

    def smooth(step: float, off: Tensor) -> bool:
        right = (function(2 * step) - function(step)).div_(step)
        left = (function(-step) - function(-2 * step)).div_(step)
        return bool((sizes(right.sub_(left)) <= _SAME * off).all())

    def hidden(last: _Quotient) -> bool:
        """Whether rounding is as large as the quotient, so that a larger step has to tell."""
        return last.rounding > _COARSE * max(last.norm, length_of_found)

    def tight(q: _Quotient) -> Tensor:
        return _TIGHT * q.sizes + q.rounding

    def close(q: _Quotient) -> bool:
        return q.off_norm <= _COARSE * q.norm + q.rounding

    quotients: list[_Quotient] = []
    length_of_found = float(found.norm())
    for relative in STEPS:
        now = quotient(relative * length)
        quotients.append(now)
        if now.rounding <= _SHARP * now.norm and bool((now.off <= tight(now)).all()):
            return "agrees"  # by no accident, whatever larger steps say
        if len(quotients) == 1:
            continue
        last = quotients[-2]
        assert now.value is not None
        assert last.value is not None
        error, off = sizes(now.value - last.value), last.off
        last.value = None  # vectors of the size of the model are let go as soon as that can be
        if hidden(last):
            continue
        settled = bool((error <= _COARSE * last.sizes + last.rounding).all())
        if settled and bool((off <= _ERRORS * error + tight(last)).all()):
            return "agrees"
        wrong = off > _PROOF * error + _ERRORS * tight(last)
        if bool(wrong.any()) and smooth(last.step, torch.where(wrong, off, torch.inf)):
            return "differs"
        if not settled and close(last) and close(now):
            return "agrees"  # larger steps go over more kinks
    if any(map(close, [q for q in quotients if not hidden(q)] or quotients[-1:])):
        return "agrees"
    # A derivative that vanishes at the point has quotients that go to zero and never settle.
    first = quotients[0]
    vanishes = bool((first.off <= _TIGHT * now.sizes + first.rounding).all())
    return "agrees" if vanishes else "open"


@dataclass
class _Quotient:
    """A central difference quotient, the norms of its parts, and what rounding may add to one.

    ``off`` and ``off_norm`` are the norms of the parts of what the derivative differs from it, and of all, and ``norm``
    is that of its own. The value is None where it is not needed any more.
    """

    step: float
    value: Tensor | None
    sizes: Tensor
    rounding: float
    off: Tensor
    off_norm: float
    norm: float
