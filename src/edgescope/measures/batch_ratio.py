"""How much of its headroom the optimizer's next step uses on the mini-batch that it is taken on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgescope.cost import Cost, in_passes
from edgescope.errors import NotKnownError
from edgescope.measures.base import Moment, Needs
from edgescope.measures.on_mini_batches import OnMiniBatches
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.measures.step_taken import step_of_rule
from edgescope.objective.minibatches import batches_of_size
from edgescope.sharpness.batch_sharpness import ratio_of_means
from edgescope.sharpness.smoothness import loss_rounding


@dataclass
class BatchRatio(OnMiniBatches):
    """1 + E[L_B(w + d_B) - L_B(w)] / E[-g_B·d_B] for the step d_B that the optimizer would take next on mini-batch B.

    On a quadratic that is E[d_B·H_B d_B] / 2E[-g_B·d_B], the share of its headroom that a step uses: 0 for infinitely
    short steps, 1 where a step leaves the loss of its own mini-batch as it was, above 1 where it raises it. For SGD
    without momentum it is the weighted batch sharpness over 2/lr, so that training on small mini-batches settles at 1.
    With momentum it settles below, where steps add up over mini-batches: no number is known there, and 0.1 to 0.6 was
    seen (docs/mini_batches.md). Of any optimizer whose update rule is known, with its present state, and clipping to a
    norm that the monitor has seen.

    ``batch`` is the size of mini-batches, by default that of ``monitor.step(batch=...)`` or of the DataLoader. They are
    the batches of the objective of that size, up to ``count`` of them, where it has several; else ``count`` are drawn
    from its samples, the same ones from ``seed`` at each reading. The error is the standard error over them by the
    delta method, with the bound of rounding. No value where the steps go uphill on their own mini-batches on the whole,
    as a stale momentum may. Cost: a gradient and a loss on each mini-batch.
    """

    batch: int | None = None
    count: int = 16
    seed: int = 0

    name: ClassVar[str] = "batch_ratio"
    title: ClassVar[str] = "Share of the headroom that a step uses on its own mini-batch"
    unit: ClassVar[str] = "1"
    source: ClassVar[str] = "Lee and Lee, The road taken (realized edge), on mini-batches"
    needs: ClassVar[Needs] = "other points"
    needs_step: ClassVar[bool] = True
    needs_rule: ClassVar[bool] = True

    def expected_cost(self, size: ProblemSize) -> Cost:
        passes = self.passes(size)
        return Cost(gradients=passes, losses=passes)

    def read(self, moment: Moment) -> Reading:
        objective, rule = moment.objective, moment.known_rule()
        size = self.samples_of_batch(moment)
        if rule.gradients > 1:
            raise NotKnownError(
                f"a step of {rule.name} needs gradients at several points",
                hint="headroom with monitor.step(batch=batch)",
            )
        w, state = moment.parameters, rule.state()
        seen = moment.taken or moment.seen
        clipped_to = None if seen is None else seen.clipped_to
        changes, descents, rounding, spent = [], [], 0.0, Cost()
        for own in batches_of_size(objective, size, self.count, self.seed):
            gradient, before = own.gradient(), float(own.loss())
            factor = 1.0
            if clipped_to is not None:
                factor = min(1.0, clipped_to / max(float(gradient.double().norm()), 1e-300))
            step = step_of_rule(rule, w, state, gradient * factor)
            after = float(own.loss((w.double() + step).to(w.dtype)))
            changes.append(after - before)
            descents.append(-float(gradient.double() @ step))
            rounding += loss_rounding(w.dtype, before, after)
            spent += own.spent
        objective.meter.add(in_passes(spent, size / objective.samples))
        return self._of(np.array(changes), np.array(descents), rounding / len(changes))

    def _of(self, changes: np.ndarray, descents: np.ndarray, rounding: float) -> Reading:
        if not np.isfinite(descents).all():
            raise NotKnownError("the gradient or the step on a mini-batch is not finite")
        if not descents.any():
            raise NotKnownError("the next step does not move: a learning rate or a gradient of 0")
        mean = float(descents.mean())
        if not mean > 0:
            raise NotKnownError(f"the next steps go uphill on {np.mean(descents <= 0):.0%} of their own mini-batches")
        if not np.isfinite(changes).all():
            share = 1 - float(np.isfinite(changes).mean())
            raise NotKnownError(f"the next step makes the loss of {share:.0%} of its own mini-batches not finite")
        value, error, _ = ratio_of_means(changes + descents, descents)
        return Reading(self.name, {"": value}, {"": math.hypot(error, rounding / mean)})
