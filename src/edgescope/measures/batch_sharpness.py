"""The curvature that mini-batches see along their own gradients, beside where SGD settles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgescope.cost import Cost
from edgescope.errors import EdgescopeError
from edgescope.measures.base import Moment, Needs
from edgescope.measures.on_mini_batches import OnMiniBatches
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.optim.rule import UpdateRule
from edgescope.optim.sgd import SGDRule
from edgescope.sharpness.batch_sharpness import batch_sharpness


@dataclass
class BatchSharpnessMeasure(OnMiniBatches):
    """The mean over mini-batches of g_B'H_B g_B / ||g_B||², and what it is over where SGD settles.

    Parts: "" is that mean, "weighted" the ratio of the means of g_B'H_B g_B and ||g_B||²; "ratio" is the weighted one
    over 2/lr, or with Polyak momentum β over 2(1-β)/lr, where SGD settles on small mini-batches; with momentum
    "ratio/large" is it over 2(1+β)/lr, where the sharpness settles on large ones. These are plateaus, no borders of
    stability. No ratio where the optimizer is not SGD, where none is known. With ``interaction``, part "interaction":
    as "", with the Hessian of all data. "square" is the mean of ||g_B||², by which readings are weighed where the ratio
    of means is taken over several of them. Errors are standard errors over the mini-batches; a 95% interval is that of
    Student's t with ``count`` - 1 degrees of freedom.

    ``batch`` is the size of mini-batches, by default that of ``monitor.step(batch=...)``, or of the run that ``train``
    does; ``count`` are drawn at each reading, the same ones from ``seed``, so that readings can be compared. ``fresh``:
    others at each step, so that the error of the draw averages out over the readings of a run.

    A weight decay that SGD adds to the gradient is part of what is measured. Cost: ``count`` gradients and products on
    mini-batches, with ``interaction`` ``count`` products on all data beside.
    """

    batch: int | None = None
    count: int = 30
    interaction: bool = False
    fresh: bool = False
    seed: int = 0

    name: ClassVar[str] = "batch_sharpness"
    title: ClassVar[str] = "Curvature along gradients of mini-batches"
    unit: ClassVar[str] = "loss / parameter² (ratio: 1)"
    source: ClassVar[str] = "Andreyev and Beneventano 2024 (arXiv 2412.20553) and 2026 (arXiv 2604.14108)"
    needs: ClassVar[Needs] = "other points"

    def expected_cost(self, size: ProblemSize) -> Cost:
        passes = self.passes(size)
        return Cost(gradients=passes, products=passes + self.count * self.interaction)

    def read(self, moment: Moment) -> Reading:
        decay, plateaus, note = _plateaus(moment.rule)
        found = batch_sharpness(
            moment.objective,
            self.samples_of_batch(moment),
            self.count,
            seed=self.seed + moment.step if self.fresh else self.seed,
            interaction=self.interaction,
            decay=decay,
        )
        values = {"": found.value, "weighted": found.weighted, "square": float(found.squares.mean())}
        errors = {"": found.error, "weighted": found.weighted_error}
        for part, plateau in plateaus.items():
            values[part], errors[part] = found.weighted / plateau, found.weighted_error / plateau
        if found.interaction is not None and found.interaction_error is not None:
            values["interaction"], errors["interaction"] = found.interaction, found.interaction_error
        return Reading(self.name, values, errors, note=note)


def _plateaus(rule: UpdateRule | None) -> tuple[float, dict[str, float], str]:
    """Coupled weight decay, where the weighted batch sharpness settles by part, and why it is not known where.

    A momentum that filters gradients by Q takes a step of Q(1) g where they stay the same and of Q(-1) g where they
    alternate: 2/(lr Q(1)) and 2/(lr Q(-1)), for Polyak 2(1-β)/lr and 2(1+β)/lr (derivation: ``optim.momentum``).
    """
    if rule is None or not all(isinstance(one, SGDRule) for one in rule.rules):
        return 0.0, {}, "no ratio, since where the batch sharpness settles is known for SGD alone"
    try:
        lr, decay, momentum = float(rule.option("lr")), float(rule.option("weight_decay")), rule.momentum()
        alternating = momentum.gauge
    except EdgescopeError as error:
        return 0.0, {}, f"no ratio ({error})"
    if not lr > 0:
        return decay, {}, "no ratio at a learning rate of 0"
    constant = momentum.direct + momentum.through * momentum.gain / (1 - momentum.memory)
    plateaus = {"ratio": 2 / (lr * constant)}
    if momentum.memory:
        plateaus["ratio/large"] = 2 / (lr * alternating)
    return decay, plateaus, ""
