"""How much the gradients of single samples differ, and the batch size at which that noise equals the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from edgescope.cost import Cost
from edgescope.errors import NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.objective.samples import sample_gradients
from edgescope.options import check_fields, integer, optional


@dataclass
class GradientNoise(Measure):
    """Parts "trace", that of the covariance Sigma of the gradients of single samples, and "scale", tr Sigma / ||G||².

    tr Sigma = sum_i ||g_i - G||² / (n - 1), G the full gradient; that of a mini-batch of b samples is 1 / b of it. The
    scale, in samples, is the batch size at which noise and gradient are equally long; it is left out where G is 0.
    ``samples``: estimated from so many, drawn from ``seed``, with the standard error of that; by default all, which has
    no error. Cost: two gradients, or one where the full one is known; sample by sample it takes 1 (convolutions) to 50
    times (fully connected) the seconds, so ``samples=500`` or a schedule of its own.
    """

    samples: int | None = None
    seed: int = 0

    name: ClassVar[str] = "gradient_noise"
    title: ClassVar[str] = "Noise of the gradient"
    unit: ClassVar[str] = "(loss / parameter)² (trace), samples (scale)"
    source: ClassVar[str] = "McCandlish et al. 2018 (arXiv 1812.06162), eq. 2.9"
    needs: ClassVar[Needs] = "gradient"

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'", samples=optional(integer(2)))

    def expected_cost(self, size: ProblemSize) -> Cost:
        return Cost(gradients=2)

    def read(self, moment: Moment) -> Reading:
        objective = moment.objective
        n = objective.samples
        if n < 2:
            raise NotKnownError("a single sample has no gradient noise", expected="at least 2 samples")
        full = objective.gradient()
        mean = full - objective.l2 * moment.parameters
        blocks = sample_gradients(objective, self.samples, self.seed)
        lengths = [torch.linalg.vector_norm(block.sub_(mean), dim=1, dtype=torch.float64) for block in blocks]
        squares = torch.cat(lengths).square()
        m = len(squares)
        trace = n / (n - 1) * float(squares.mean())
        error = n / (n - 1) * float(squares.std()) * ((1 - m / n) / m) ** 0.5
        values, errors = {"trace": trace}, {"trace": error}
        length = float(full.double().square().sum())
        if length:
            values["scale"], errors["scale"] = trace / length, error / length
        return Reading(self.name, values, errors, note="" if length else "no scale, since the gradient is zero")
