"""The shape of the trajectory: persistent-homology dimension and lifetime sums of the last iterates of a run."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import EdgescopeError, NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.memory import require
from edgescope.objective import Objective
from edgescope.objective.samples import sample_losses
from edgescope.options import check_fields, integer, real
from edgescope.statistics.persistence import MIN_POINTS, persistence


@dataclass
class PersistentHomology(Measure):
    """PH^0 dimension and lifetime sum E_alpha of the last ``iterates`` iterates of the run.

    Parts "dimension/METRIC" with its standard error and "lifetime_sum/METRIC" (exact for these points, no error), for
    the ``metric`` "euclidean", between parameters, or "loss", the mean absolute difference of the samples' losses, or
    "both". Compare sums of equal numbers of iterates only.

    It is shown every step by the monitor, and keeps every ``stride``-th from step ``after`` on, so that with
    ``iterates=500,stride=2`` it sees the last 1,000. Until there are enough a reading has no values and a note that
    counts them. Kept as float32 differences to the first iterate, part of the state: iterates * P * 4 bytes. Of
    more than ``dimensions`` parameters a fixed random projection to so many (``seed``) is kept, in which a distance
    errs by some (2 dimensions)^(-1/2), 1.1% by default. With "loss" also iterates * samples * 4 bytes.

    Cost: with "loss" one loss for every iterate kept, which stands in the next reading; else nothing but time, 0.4 s a
    reading for 1,000 iterates.
    """

    iterates: int = 1000
    stride: int = 1
    after: int = 0
    alpha: float = 1.0
    metric: Literal["euclidean", "loss", "both"] = "euclidean"
    dimensions: int = 4096
    seed: int = 0
    _kept: dict[str, deque[Float[Tensor, " k"]]] = field(init=False, repr=False)
    _first: dict[str, Float[Tensor, " k"]] = field(default_factory=dict, init=False, repr=False)
    _unpaid: Cost = field(default_factory=Cost, init=False, repr=False)
    _fault: str = field(default="", init=False, repr=False)
    _project: Callable[[Tensor], Tensor] | None = field(default=None, init=False, repr=False)

    name: ClassVar[str] = "persistent_homology"
    title: ClassVar[str] = "Persistent homology of the trajectory"
    unit: ClassVar[str] = "1 (dimension), distance^alpha (lifetime sum)"
    source: ClassVar[str] = (
        "Birdal et al. 2021 (arXiv 2111.13171); loss metric: Dupuis et al. 2023 (arXiv 2302.02766);"
        " lifetime sums: Andreeva et al. 2024 (arXiv 2407.08723)"
    )
    needs: ClassVar[Needs] = "nothing"
    needs_run: ClassVar[str] = "it needs the parameters of many steps"

    def __post_init__(self) -> None:
        check_fields(
            self,
            f"measure '{self.name}'",
            iterates=integer(MIN_POINTS),
            stride=integer(1),
            after=integer(0),
            alpha=real(above=0, most=100),
            dimensions=integer(1),
        )
        metrics = ("euclidean", "loss") if self.metric == "both" else (self.metric,)
        self._kept = {metric: deque(maxlen=self.iterates) for metric in metrics}

    def check_problem(self, size: ProblemSize) -> None:
        numbers = min(size.parameters, self.dimensions) + (0 if self.metric == "euclidean" else size.samples or 0)
        require(
            4 * self.iterates * numbers + 8 * self.iterates**2,  # the points, and the distances between them
            f"measure '{self.name}' with {self.iterates:,} iterates",
            hint="fewer iterates or dimensions",
        )

    def follow(self, step: int, objective: Objective) -> None:
        if step < self.after or step % self.stride or self._fault:
            return
        for metric, kept in self._kept.items():
            if metric == "euclidean":
                point = self._projected(objective.parameters())
            else:
                before = objective.spent
                try:
                    point = sample_losses(objective).cpu()
                except EdgescopeError as error:
                    self._fault = str(error)
                    return
                self._unpaid += objective.meter.since(before)
            # In float32 nearby iterates of large norm would be rounded together; their differences are not.
            kept.append((point - self._first.setdefault(metric, point)).float())

    def take(self, moment: Moment) -> Reading:
        reading = super().take(moment)
        owed, self._unpaid = self._unpaid, Cost()
        return replace(reading, cost=reading.cost + owed)

    def read(self, moment: Moment) -> Reading:
        if moment.diverged:
            raise NotKnownError("not measured, since the run has diverged")
        if self._fault:
            raise NotKnownError(self._fault)
        values: dict[str, float] = {}
        errors: dict[str, float] = {}
        for metric, kept in self._kept.items():
            if len(kept) < self.iterates:
                raise NotKnownError(f"a trajectory of {len(kept)} iterates", expected=f"the {self.iterates} asked for")
            points = torch.stack(list(kept)).numpy()
            found = persistence(distances_between(points, metric), alpha=self.alpha, seed=self.seed)
            values |= {f"dimension/{metric}": found.dimension, f"lifetime_sum/{metric}": found.lifetime_sum}
            errors[f"dimension/{metric}"] = found.dimension_error
        endless = ", ".join(part for part, number in values.items() if math.isinf(number))
        note = f"{endless} not finite, since the sums grow as fast as the number of iterates" if endless else ""
        return Reading(self.name, values, errors, note=note)

    def state(self) -> dict[str, Any]:
        return {
            "kept": {metric: torch.stack(list(kept)) for metric, kept in self._kept.items() if kept},
            "first": dict(self._first),
            "unpaid": self._unpaid.losses,
            "fault": self._fault,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        for metric, kept in self._kept.items():
            kept.clear()
            kept.extend(row.clone() for row in state["kept"].get(metric, ()))
        self._first = dict(state["first"])
        self._unpaid, self._fault = Cost(losses=state["unpaid"]), state["fault"]

    def _projected(self, w: Float[Tensor, " P"]) -> Float[Tensor, " k"]:
        if len(w) <= self.dimensions:
            return w.double().cpu()
        if self._project is None:
            self._project = random_projection(len(w), self.dimensions, self.seed)
        return self._project(w)


def distances_between(points: Float[np.ndarray, "n k"], metric: str) -> Float[np.ndarray, "n n"]:
    """All distances, in float64: "euclidean", or "loss", the mean absolute difference of the entries."""
    points = points.astype(np.float64)
    if metric == "loss":
        return scipy.spatial.distance.cdist(points, points, "cityblock") / points.shape[1]
    return scipy.spatial.distance.cdist(points, points)


def random_projection(size: int, dimensions: int, seed: int) -> Callable[[Float[Tensor, " P"]], Float[Tensor, " k"]]:
    """A fixed linear map of vectors of length P to length k, float64, that keeps squared lengths up to (2 / k)^(1/2).

    Each coordinate is added, with a random sign, to one of the k entries at random; so the squared length is right in
    the mean, with a variance of at most 2 / k of its square. Memory: 8 P bytes. Cost: one pass over the vector.
    Source: Charikar, Chen and Farach-Colton 2002 (count sketch); Weinberger et al. 2009 (arXiv 0902.2206), Lemma 2.
    """
    # Half of the 2k buckets are added and half subtracted: bucket and sign in one draw.
    buckets = torch.randint(
        2 * dimensions, (size,), generator=torch.Generator().manual_seed(seed), device="cpu"
    ).numpy()

    def project(w: Float[Tensor, " P"]) -> Float[Tensor, " k"]:
        sums = np.bincount(buckets, weights=w.detach().double().cpu().numpy(), minlength=2 * dimensions)
        return torch.from_numpy(sums[:dimensions] - sums[dimensions:])

    return project
