"""The options of the sharpness dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from edgescope.dimension.estimators import Estimator
from edgescope.dimension.formula import Averaging
from edgescope.errors import InputError
from edgescope.options import check_fields, each, integer, optional, real

Method = Literal["exact", "slq", "kde", "ps"]

DEAD_ZONES = (1e-8, 1e-6, 1e-4, 1e-2)


@dataclass(frozen=True)
class DimensionOptions:
    """How :func:`edgescope.sharpness_dimension` samples and averages. All may be given to it as keyword arguments.

    Args:
        method: "exact" (all eigenvalues or singular values of a dense matrix), or one of the quadratures "slq", "kde"
            and "ps" (see ``dimension.estimators``).
        averaging: "sorted": the logarithms are sorted in each mini-batch, and averaged rank by rank, before the
            Kaplan-Yorke formula is applied (the paper's exact dimension, and the default when exact). "pooled": one
            distribution of all mini-batches (the paper's choice for quadrature, and the default there). "each": the
            mean of the dimensions of the mini-batches (of the random vectors where there is a single objective).
        batch_size: draw mini-batches of this many samples from the Objective's data, each with its own random vectors.
            Without it all data are one batch.
        batches: number of mini-batches, by default 8.
        probes: number of random vectors for each mini-batch. With few, the standard error is itself uncertain.
        steps: number of Lanczos steps. For the first mini-batch it is doubled from ``steps`` until the dimension
            changes by at most ``tol`` times the number of parameters.
        max_steps: number of Lanczos steps up to which it is doubled.
        tol: change of the dimension, over the number of parameters, below which it is not doubled further.
        deflate: number of leading eigenpairs that are counted exactly instead of sampled, see
            :func:`edgescope.spectrum`.
        bandwidth: standard deviation of the smoothing, in the unit of what is smoothed: exponents for "kde", learning
            rate times eigenvalues for "ps". By default Silverman's rule.
        quantiles: number of points of equal mass for "ps", by default the number of parameters.
        dead_zones: widths in |lr * eigenvalue| (for an ``optimizer``, in |ln singular value|), see :class:`DeadZone`.
        dtype: precision of the products with Objectives; float64, because null and tiny negative eigenvalues matter.
            None: that of each Objective. Operators have their own.
        seed: seed of the mini-batches and random vectors.

    Raises :class:`InputError` for values that cannot be used.
    """

    method: Method = "exact"
    averaging: Averaging | None = None
    batch_size: int | None = None
    batches: int | None = None
    probes: int = 16
    steps: int = 50
    max_steps: int = 400
    tol: float = 0.01
    deflate: int = 0
    bandwidth: float | None = None
    quantiles: int | None = None
    dead_zones: Sequence[float] = DEAD_ZONES
    dtype: torch.dtype | None = torch.float64
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(
            self,
            "sharpness_dimension",
            batch_size=optional(integer(1)),
            batches=optional(integer(1)),
            probes=integer(1),
            steps=integer(1),
            max_steps=integer(1),
            tol=real(above=0, below=1),
            deflate=integer(0),
            bandwidth=optional(real(least=0)),
            quantiles=optional(integer(1)),
            dead_zones=each(real(above=0)),
        )
        if self.averaging == "sorted" and self.method != "exact":
            raise InputError(
                f"averaging='sorted' with method='{self.method}'", expected="'pooled' or 'each', or method='exact'"
            )

    @property
    def order(self) -> Averaging:
        """The order of averaging: as given, or the default of the method."""
        return self.averaging or ("sorted" if self.method == "exact" else "pooled")

    @property
    def estimator(self) -> Estimator:
        """How exponents are estimated from nodes."""
        return "slq" if self.method == "exact" else self.method
