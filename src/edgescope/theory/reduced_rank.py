"""Learning coefficients of linear networks in closed form: reduced-rank regression, deep ones, with weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from edgescope.errors import InputError
from edgescope.short_errors import short_errors
from edgescope.theory.arguments import whole_number


class Singularity(NamedTuple):
    """A learning coefficient λ and its multiplicity m: the free energy grows as λ ln n - (m - 1) ln ln n.

    Of a regular model the coefficient is half the number of parameters, and the multiplicity 1.
    """

    coefficient: float
    multiplicity: int


@short_errors
def reduced_rank(inputs: int, hidden: int, outputs: int, rank: int) -> Singularity:
    """The learning coefficient of y = B A x + noise of variance 1, where the true map has this rank.

    A has shape (hidden, inputs), B (outputs, hidden), and the covariance of the inputs has full rank. It is the
    smallest one over all B A that equal the true map: where a sampler starts on another point of this set, the local
    one may be larger. Raises :class:`InputError` for widths below 1 and a rank that no such network has.

    Source: Aoyagi and Watanabe 2005 (Neural Networks 18, 924), main theorem.
    """
    M, H, N = (
        whole_number(width, name, 1) for width, name in ((inputs, "inputs"), (hidden, "hidden"), (outputs, "outputs"))
    )
    r = _rank((M, H, N), rank)
    if N + r > M + H:
        return Singularity((H * M - H * r + N * r) / 2, 1)
    if M + r > N + H:
        return Singularity((H * N - H * r + M * r) / 2, 1)
    if H + r > M + N:
        return Singularity(M * N / 2, 1)
    eighths = -((H + r) ** 2) - M**2 - N**2 + 2 * (H + r) * (M + N) + 2 * M * N
    odd = (M + H + N + r) % 2
    return Singularity((eighths + odd) / 8, 1 + odd)


@short_errors
def deep_linear(widths: Sequence[int], rank: int) -> Singularity:
    """The learning coefficient of a linear network of these widths, inputs to outputs, and a true map of this rank.

    With excess widths D = width - rank, the set of the l + 1 narrowest layers is the one whose sum of D is at least l
    times its largest and below l times the smallest of the others. For two layers of weights it is
    :func:`reduced_rank`. Raises :class:`InputError` for fewer than two widths, widths below 1, and a rank that no such
    network has.

    Source: Aoyagi 2024 (Neural Networks 172, 106132), theorem 1, as Lau et al. 2023 (arXiv 2308.12108) restate it.
    """
    every = [whole_number(width, f"widths[{place}]", 1) for place, width in enumerate(widths)]
    if len(every) < 2:
        raise InputError(f"{len(every)} widths", expected="those of the inputs, the hidden layers and the outputs")
    r = _rank(every, rank)
    excess = sorted(width - r for width in every)
    for layers in range(1, len(excess)):
        inside, outside = excess[: layers + 1], excess[layers + 1 :]
        if sum(inside) >= layers * inside[-1] and (not outside or sum(inside) < layers * outside[0]):
            break
    else:
        raise InputError(f"no set of layers for widths {every} and rank {r}", expected="a linear network")
    total = sum(inside)
    a = total - layers * (-(-total // layers) - 1)
    pairs = (total**2 - sum(one**2 for one in inside)) // 2
    coefficient = (
        Fraction(-(r**2) + r * (every[0] + every[-1]), 2)
        + Fraction(a * (layers - a), 4 * layers)
        - Fraction((layers - 1) * total**2, 4 * layers)
        + Fraction(pairs, 2)
    )
    return Singularity(float(coefficient), a * (layers - a) + 1)


@short_errors
def deep_linear_with_decay(widths: Sequence[int], rank: int) -> Singularity:
    """The learning coefficient of a deep linear network's loss with weight decay, at a state with ``rank`` modes.

    With decay a state that is stable is a minimum up to the rotations of its hidden layers, which change neither the
    map nor the norm: half of (parameters - rank width + rank (rank + 1)/2 of each hidden layer). All other directions
    are curved, those of zero weights by the decay itself. It holds for three layers of weights and more, between
    spinodals; with two, rank 0 is stable only above the critical decay. Raises :class:`InputError` as
    :func:`deep_linear` does.

    Source: derived here, from the Hessian of a minimum along a manifold (Morse and Bott).
    """
    every = [whole_number(width, f"widths[{place}]", 1) for place, width in enumerate(widths)]
    if len(every) < 2:
        raise InputError(f"{len(every)} widths", expected="those of the inputs, the hidden layers and the outputs")
    r = _rank(every, rank)
    parameters = sum(inputs * outputs for inputs, outputs in pairwise(every))
    rotations = sum(r * hidden - r * (r + 1) // 2 for hidden in every[1:-1])
    return Singularity((parameters - rotations) / 2, 1)


def _rank(widths: Sequence[int], rank: int) -> int:
    number = whole_number(rank, "rank", 0)
    if number > min(widths):
        raise InputError(f"rank is {number}", expected=f"at most {min(widths)}, the smallest width")
    return number
