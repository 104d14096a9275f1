"""The gradients of many mini-batches and the Hessian products with them, at a cost near that of the arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost
from edgescope.errors import EdgescopeError
from edgescope.objective.batches import Batch
from edgescope.objective.drawn_samples import drawn
from edgescope.objective.minibatches import objective_on, refuse_mini_batches
from edgescope.objective.objective import Objective
from edgescope.objective.paths import DoubleBackward
from edgescope.objective.problem import Point

Take = Callable[[Float[Tensor, " P"], Float[Tensor, " P"]], None]
"""What is done with a gradient g and the product H g."""


def along_gradients(
    objective: Objective, size: int, count: int, take: Take, *, seed: int = 0, add: Float[Tensor, " P"] | None = None
) -> Cost:
    """Call ``take(g, H g)`` for each of the mini-batches that ``mini_batches`` draws; what was spent on them.

    g is the gradient of the loss of a mini-batch plus ``add``, and H its Hessian, as its own objective gives them up to
    rounding. The first mini-batch is such an objective, which is checked and timed. Where its graphs are kept, the
    others are evaluated by the same operations with the model set for measuring once, and one graph gives both
    gradient and product: on small models most of the time goes into what surrounds the arithmetic. Raises as
    ``mini_batches`` does, and as products do. Cost: one pass over the data, one gradient and one product on ``size``
    samples for each; where graphs are not kept, a second gradient.
    """
    refuse_mini_batches(objective, size)
    batches = drawn(objective._problem.batches, size, count, seed)
    first = objective_on(objective, next(batches), objective.dtype)
    _one(first, add, take)
    first.release()
    known = first._curvature.planner.known(1, graphs=False)
    path, left = None if known is None else known[0], batches
    if isinstance(path, DoubleBackward) and path.keep and not path.batched:
        left = itertools.chain(_evaluate(first, path, batches, add, take), batches)
    spent = first.spent
    for batch in left:
        other = objective_on(objective, batch, objective.dtype)
        other._problem.batches.cut = first._problem.batches.cut
        other._curvature.planner.follow(first._curvature.planner)
        other._curvature.verified = first._curvature.verified
        _one(other, add, take)
        spent += other.spent
        other.release()
    return spent


def _one(objective: Objective, add: Float[Tensor, " P"] | None, take: Take) -> None:
    gradient = objective.gradient() if add is None else objective.gradient() + add
    take(gradient, objective.hvp(gradient))


def _evaluate(
    objective: Objective, path: DoubleBackward, batches: Iterator[Batch], add: Float[Tensor, " P"] | None, take: Take
) -> list[Batch]:
    """Gradients and products of mini-batches in the place of the data of ``objective``, which is spent for it.

    Where one fails or is not finite it stops there and returns that mini-batch, of which an objective says why.
    """
    problem, l2 = objective._problem, objective.l2
    point = problem.point(None)
    with objective._curvature.ready(point, derivatives=False):
        for batch in batches:
            problem.batches = problem.batches.on(batch)
            problem.total = problem.batches.samples
            place = Point(point.flat, point.tensors, point.constants, parts=point.parts)
            try:
                gradient = path.gradient(problem, place)
                if l2:
                    gradient = gradient + l2 * problem.masked(point.flat)
                if add is not None:
                    gradient = gradient + add
                if not bool(gradient.isfinite().all()):
                    return [batch]
                row = problem.masked(gradient)
                product = problem.masked(path.products(problem, place, row[None])[0])
            except (EdgescopeError, RuntimeError, NotImplementedError, MemoryError):
                return [batch]
            objective.meter.count(gradients=1, products=1)
            take(gradient, product + l2 * row if l2 else product)
    return []
