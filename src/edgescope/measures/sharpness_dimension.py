"""The sharpness dimension at a step of a run, by one or several estimators on the same mini-batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import torch

from edgescope.cost import Cost, in_passes
from edgescope.dimension import SharpnessDimension, sharpness_dimension
from edgescope.dimension.options import Method
from edgescope.linalg import Operator, Spectrum, from_matrix, spectrum, to_matrix
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.memory import require
from edgescope.objective import Objective, in_precision, mini_batches
from edgescope.options import LARGEST_RATE, check_choice, check_fields, integer, optional, real, refusal


@dataclass
class SharpnessDimensionMeasure(Measure):
    """The sharpness dimension of gradient descent, in float64: a part for each of ``methods`` (joined by +).

    "exact", "slq", "kde" and "ps" are those of :func:`edgescope.sharpness_dimension`, on ``batches`` mini-batches of
    ``batch`` samples drawn from ``seed``, the same for all methods and steps; without ``batch`` on all data. ``lr`` in
    place of the optimizer's is for grids of learning rates; with ``fixed_lr`` there is also a part "METHOD/fixed"
    for each: the dimension that the same Hessians would have at that one rate. Of the first method also "size" (the
    number of directions), "exponent" (the largest, the RDS sharpness of order 1), "contraction" (the sum of all), and
    further orders of averaging and dead zones, "METHOD/pooled", "METHOD/zone 0.0001".

    All methods and learning rates use the same spectra. With "exact" among the methods the Hessian of each mini-batch
    is formed and the quadrature taken of that: P products and 8 P^2 bytes for each. Else quadrature of ``probes``
    vectors and ``steps`` steps: their product of products for each mini-batch. Errors are one standard error, of
    mini-batches or probes, depth, smoothing and rounding together.
    """

    methods: str = "slq"
    batch: int | None = None
    batches: int = 4
    probes: int = 4
    steps: int = 64
    lr: float | None = None
    fixed_lr: float | None = None
    seed: int = 0

    name: ClassVar[str] = "sharpness_dimension"
    title: ClassVar[str] = "Sharpness dimension"
    unit: ClassVar[str] = "directions"
    source: ClassVar[str] = "Tuci et al. 2026 (arXiv 2604.19740)"
    needs: ClassVar[Needs] = "products"

    def __post_init__(self) -> None:
        owner = f"measure '{self.name}'"
        check_fields(
            self,
            owner,
            batch=optional(integer(1)),
            batches=integer(1),
            probes=integer(1),
            steps=integer(1),
            lr=optional(real(above=0, most=LARGEST_RATE)),
            fixed_lr=optional(real(above=0, most=LARGEST_RATE)),
        )
        for method in self._methods:
            check_choice(owner, "methods", method, known=get_args(Method))
        if len(set(self._methods)) < len(self._methods):
            raise refusal(owner, "methods", self.methods, "each method once")

    def check_problem(self, size: ProblemSize) -> None:
        owner = f"measure '{self.name}'"
        size.fits_samples(owner, "batch", self.batch)
        if "exact" in self._methods:
            require(8 * size.parameters**2, f"{owner} by the method exact", hint="another method, or a smaller model")
        if self._methods != ["exact"]:
            steps = min(self.steps, size.parameters)  # a probe at a time, where more do not fit
            require(8 * steps * size.parameters, f"{owner} with {self.steps:,} steps", hint="fewer steps")

    @property
    def _methods(self) -> list[str]:
        return self.methods.split("+")

    def expected_cost(self, size: ProblemSize) -> Cost:
        matrices = 1 if self.batch is None else self.batches
        share = 1.0 if self.batch is None or size.samples is None else self.batch / size.samples
        products = size.parameters if "exact" in self._methods else self.probes * self.steps
        return Cost(products=max(1, round(matrices * share * products)))

    def read(self, moment: Moment) -> Reading:
        lr = float(moment.known_rule().option("lr")) if self.lr is None else self.lr
        exact, sampled = self._spectra(moment.objective)
        values: dict[str, float] = {}
        errors: dict[str, float] = {}
        for number, method in enumerate(self._methods):
            spectra = exact if method == "exact" else sampled
            found = self._estimate(spectra, method, lr)
            values[method], errors[method] = found.dimension, found.error
            if not number:
                values |= _details(found, method)
            if self.fixed_lr is not None:
                fixed = self._estimate(spectra, method, self.fixed_lr)
                values[f"{method}/fixed"], errors[f"{method}/fixed"] = fixed.dimension, fixed.error
        return Reading(self.name, values, errors)

    def _spectra(self, objective: Objective) -> tuple[list[Spectrum], list[Spectrum]]:
        """Of every mini-batch, exact and by quadrature, as far as the methods need them."""
        exact, sampled = [], []
        for number, hessian in enumerate(self._hessians(objective)):
            if "exact" in self._methods:
                exact.append(spectrum(hessian, method="exact"))
            if set(self._methods) != {"exact"}:
                seed = self.seed + number
                sampled.append(spectrum(hessian, probes=self.probes, steps=self.steps, seed=seed))
        return exact, sampled

    def _hessians(self, objective: Objective) -> Iterator[Operator]:
        """Of every mini-batch in turn; formed where all of its eigenvalues are asked for."""
        members: Iterable[Objective] = [in_precision(objective, torch.float64)]
        if self.batch is not None:
            members = mini_batches(objective, self.batch, self.batches, seed=self.seed, dtype=torch.float64)
        for member in members:
            operator = member.operator()
            yield from_matrix(to_matrix(operator)) if "exact" in self._methods else operator
            if member is not objective:  # which in_precision gives back where it is that already
                objective.meter.add(in_passes(member.spent, member.samples / objective.samples))
                member.release()

    def _estimate(self, spectra: list[Spectrum], method: Any, lr: float) -> SharpnessDimension:
        return sharpness_dimension(spectra[0] if self.batch is None else spectra, lr, method=method)


def _details(found: SharpnessDimension, method: str) -> dict[str, float]:
    values = {"size": float(found.size), "exponent": found.sharpness, "contraction": found.contraction}
    values |= {f"{method}/{how}": value for how, value in found.by_averaging.items()}
    return values | {f"{method}/zone {zone.width:g}": zone.dimension for zone in found.dead_zones}
