"""The nodes of every mini-batch: all eigenvalues, or a quadrature deep enough for the dimension to converge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgescope.dimension.formula import Unit
from edgescope.dimension.options import DimensionOptions
from edgescope.dimension.sources import Sources
from edgescope.dimension.steps import GradientDescentStep, OptimizerStep
from edgescope.errors import InputError
from edgescope.linalg import Spectrum, spectrum


@dataclass(frozen=True)
class Sample:
    """The nodes of each unit, and in ``coarse`` those after half the Lanczos steps (None when exact).

    ``size`` is the number of directions. ``rounding`` is the possible error of a node due to the precision of the
    products. ``probes`` and ``steps`` are those of one member, 0 when exact.
    """

    units: list[Unit]
    size: int
    rounding: float
    coarse: list[Unit] | None = None
    probes: int = 0
    steps: int = 0


def all_nodes(members: Sources, step: GradientDescentStep | OptimizerStep) -> Sample:
    """All eigenvalues or singular values of every member, from dense matrices."""
    found = [step.exact(member) for member in members]
    size = _one_size([len(nodes.values) for nodes, _ in found])
    return Sample([[nodes] for nodes, _ in found], size, max(rounding for _, rounding in found))


def sampled_nodes(
    members: Sources,
    step: GradientDescentStep,
    options: DimensionOptions,
    dimension: Callable[[int, Sequence[Unit]], float],
) -> Sample:
    """Quadratures of all members. The depth is that at which the ``dimension`` of the first member converges."""
    units: list[Unit] = []
    coarse: list[Unit] = []
    steps, sizes, rounding = options.steps, [], 0.0

    def converged(found: Spectrum) -> bool:
        here, before = (dimension(found.size, [step.sampled(s)]) for s in (found, found.half or found))
        return abs(here - before) <= options.tol * found.size

    for number, member in enumerate(members):
        found = (
            member
            if isinstance(member, Spectrum)
            else spectrum(
                member,
                probes=options.probes,
                steps=steps,
                max_steps=steps if number else max(steps, options.max_steps),
                stop_when=converged,
                deflate=options.deflate,
                seed=options.seed + number,
            )
        )
        steps = found.steps
        sizes.append(found.size)
        rounding = max(rounding, step.lr * found.rounding)
        for into, one in ((units, found), (coarse, found.half or found)):
            measures = step.sampled(one)
            into += [measures] if members.drawn else [[measure] for measure in measures]
    return Sample(units, _one_size(sizes), rounding, coarse, found.probes, steps)


def _one_size(sizes: list[int]) -> int:
    if not sizes:
        raise InputError("no objectives and no operators", expected="at least one")
    if len(set(sizes)) > 1:
        raise InputError(
            f"Jacobians of different sizes ({', '.join(map(str, dict.fromkeys(sizes)))})", expected="one size"
        )
    return sizes[0]
