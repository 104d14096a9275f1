"""The nodes of every mini-batch: all of them, or a quadrature whose depth grows until the dimension stands still."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgescope.dimension.formula import Unit
from edgescope.dimension.sources import Sources
from edgescope.dimension.steps import GradientDescentStep, OptimizerStep
from edgescope.errors import InputError
from edgescope.linalg import Spectrum, spectrum


@dataclass(frozen=True)
class Sample:
    """Nodes by unit; ``coarse`` the same after half the Lanczos steps (None when exact); ``size`` directions each.

    ``probes`` and ``steps`` are those of one member, 0 when exact.
    """

    units: list[Unit]
    size: int
    coarse: list[Unit] | None = None
    probes: int = 0
    steps: int = 0


@dataclass(frozen=True)
class Depth:
    """How a quadrature samples: see :func:`edgescope.sharpness_dimension`."""

    probes: int
    steps: int
    max_steps: int
    tol: float
    deflate: int
    seed: int


def all_nodes(members: Sources, step: GradientDescentStep | OptimizerStep) -> Sample:
    """Every direction of every member, from dense matrices."""
    units: list[Unit] = [[step.exact(member)] for member in members]
    return Sample(units, _one_size([len(unit[0][0]) for unit in units]))


def sampled_nodes(
    members: Sources, step: GradientDescentStep, depth: Depth, dimension: Callable[[int, Sequence[Unit]], float]
) -> Sample:
    """Quadratures of all members; the first one settles the depth, by the ``dimension`` of a size and its units."""
    units: list[Unit] = []
    coarse: list[Unit] = []
    steps, sizes = depth.steps, []

    def settled(found: Spectrum) -> bool:
        here, before = (dimension(found.size, [step.sampled(s)]) for s in (found, found.half or found))
        return abs(here - before) <= depth.tol * found.size

    for number, member in enumerate(members):
        found = (
            member
            if isinstance(member, Spectrum)
            else spectrum(
                member,
                probes=depth.probes,
                steps=steps,
                max_steps=steps if number else max(steps, depth.max_steps),
                enough=settled,
                deflate=depth.deflate,
                seed=depth.seed + number,
            )
        )
        steps = found.steps
        sizes.append(found.size)
        for into, one in ((units, found), (coarse, found.half or found)):
            measures = step.sampled(one)
            into += [measures] if members.drawn else [[measure] for measure in measures]
    return Sample(units, _one_size(sizes), coarse, found.probes, steps)


def _one_size(sizes: list[int]) -> int:
    if not sizes:
        raise InputError("no objectives and no operators", expected="at least one")
    if len(set(sizes)) > 1:
        raise InputError(
            f"Jacobians of different sizes ({', '.join(map(str, dict.fromkeys(sizes)))})", expected="one size"
        )
    return sizes[0]
