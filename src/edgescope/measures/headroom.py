"""How far along the last step the loss could have been followed before it rises: 1 at the edge, for any optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.cost import Cost, in_passes
from edgescope.errors import NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.blocks import By, blocks_of
from edgescope.measures.last_step import LastStep, StepPart
from edgescope.measures.problem_size import ProblemSize
from edgescope.measures.reading import Reading
from edgescope.objective import Objective
from edgescope.options import check_fields, optional, real
from edgescope.sharpness.headroom import Headroom, headroom

OWN: Final = "batch"
"""The name of the data that the last step was taken on, in parts."""


@dataclass
class HeadroomMeasure(Measure):
    """The multiple s* of the last step at which the loss first exceeds that where the step began.

    Of any optimizer, with whatever clips or scales its steps: what is measured is the step that was taken. On a plateau
    of the training loss s* is near 1 by necessity; with mini-batches only that on the step's own batch tells how far
    the step is from the edge (docs/mini_batches.md).

    Parts: "" is s*, infinite where the loss does not rise up to 64 times the step; "ratio" is 1/s*, 0 there; "used" is
    1 + (loss change)/(-g·d) of the step d; "critical_rate" is s* times the learning rate, where the step had one. The
    same of each evaluation, as "NAME", "ratio/NAME", "used/NAME" and "critical_rate/NAME", and of the batch that was
    given as ``monitor.step(batch=...)``, with the name "batch": ``on`` is "all" for all of these, "objective" for the
    first, and "batch" for the last alone, without a pass over all data. ``shares``: also "share/BLOCK" for each of
    "tensors" or "layers", d_b·(Hd)_b/d·Hd, which add up to 1 and say which block's curvature limits the step.

    Errors are bracket and rounding; with ``population``, the number of samples that those of the objective are drawn
    from, also the standard error of that draw. After a step at learning rate 0, as in a warm-up, the headroom is that
    of the rule's step at the rate that the schedule starts from (``initial_lr``).

    Cost: two or three losses for each set of data, one gradient for each where training did not take it from the
    objective, and one product for shares.
    """

    on: Literal["all", "objective", "batch"] = "all"
    shares: By = "none"
    population: float | None = None
    _before: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _uphill: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    _seen: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    name: ClassVar[str] = "headroom"
    title: ClassVar[str] = "Headroom of the last step"
    unit: ClassVar[str] = "steps (critical_rate: learning rate)"
    source: ClassVar[str] = "Kalra et al. 2026 (arXiv 2601.16979); used: Lee and Lee, The road taken"
    needs: ClassVar[Needs] = "other points"
    needs_run: ClassVar[str] = "it needs the loss before and beyond an optimizer step"
    needs_previous: ClassVar[bool] = True
    needs_step: ClassVar[bool] = True
    may_be_infinite: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'", population=optional(real(least=1)))

    def of_the_step(self) -> frozenset[StepPart]:
        return frozenset[StepPart]({"parameters"}) if self.on == "batch" else super().of_the_step()

    def passes_over_data(self) -> bool:
        return self.on != "batch"

    def expected_cost(self, size: ProblemSize) -> Cost:
        return Cost() if self.on == "batch" else Cost(losses=2, gradients=1, products=int(self.shares != "none"))

    def read(self, moment: Moment) -> Reading:
        last = moment.last
        if last is None or last.start is None:
            raise NotKnownError("there is no step before the first, or none that could be seen")
        step, rates, note = _step(moment, last)
        values: dict[str, float] = {}
        errors: dict[str, float] = {}
        notes = [note]
        for name, objective in self._objectives(moment).items():
            found = self._of(name, objective, moment, step, taken=not note)
            _add(name, found, rates, values, errors)
            notes.append(self._words(name, found))
        if self.shares != "none":
            shares, why = _shares(moment.objective, last.start, step, self.shares)
            values |= shares
            notes.append(why)
        return Reading(self.name, values, errors, note="; ".join(filter(None, notes)))

    def _objectives(self, moment: Moment) -> dict[str, Objective]:
        """The losses that are measured, by the names of their parts."""
        own = None if self.on == "objective" else moment.own_batch()
        if self.on == "batch":
            if own is None:
                raise NotKnownError("the batch of the step is not known", hint="monitor.step(batch=batch)")
            return {OWN: own}
        found = {"": moment.objective}
        if self.on == "all":
            found |= moment.evaluations | ({} if own is None else {OWN: own})
        return found

    def _of(self, name: str, objective: Objective, moment: Moment, step: Float[Tensor, " P"], taken: bool) -> Headroom:
        """Of one loss; ``taken`` says that the step ends at the present parameters."""
        assert moment.last is not None
        assert moment.last.start is not None
        before, spent = moment.previous if objective is moment.objective else None, objective.spent
        found = headroom(
            objective,
            moment.last.start if before is None else before.parameters,
            step,
            loss_w=None if before is None else before.loss,
            gradient_w=None if before is None else before.gradient,
            loss_next=float(objective.loss()) if taken else None,
            start=self._before.get(name),
            population=self.population if objective is moment.objective else None,
        )
        if math.isfinite(found.value):
            self._before[name] = found.value
        self._seen[name] = self._seen.get(name, 0) + 1
        self._uphill[name] = self._uphill.get(name, 0) + int(found.descent <= 0)
        if name == OWN:
            share = objective.samples / moment.objective.samples
            moment.objective.meter.add(in_passes(objective.spent - spent, share))
        return found

    def _words(self, name: str, found: Headroom) -> str:
        if not found.note:
            return ""
        count = f" ({self._uphill[name]} of {self._seen[name]} readings so far)" if found.descent <= 0 else ""
        return f"{name}: {found.note}{count}" if name else f"{found.note}{count}"

    def state(self) -> dict[str, Any]:
        return {"before": dict(self._before), "uphill": dict(self._uphill), "seen": dict(self._seen)}

    def load_state(self, state: dict[str, Any]) -> None:
        self._before, self._uphill, self._seen = (dict(state.get(key, {})) for key in ("before", "uphill", "seen"))


def _step(moment: Moment, last: LastStep) -> tuple[Float[Tensor, " P"], tuple[float, ...], str]:
    """The step, its learning rates, and a remark where it is not the one that was taken."""
    assert last.start is not None
    step = moment.parameters.double() - last.start.double()
    if bool(step.any()):
        return step, last.rates, ""
    target = last.at_target_rate() if not any(last.rates) else None
    if target is None or not bool(target[0].any()):
        raise NotKnownError("the parameters did not move in the last step")
    rates = ", ".join(f"{rate:g}" for rate in target[1])
    return (
        target[0],
        target[1],
        f"of the step at the rate that the schedule starts from, {rates}, since that taken is 0",
    )


def _add(
    name: str, found: Headroom, rates: tuple[float, ...], values: dict[str, float], errors: dict[str, float]
) -> None:
    """Add the parts of one loss; what is not known is left out."""
    end = f"/{name}" if name else ""
    if not math.isnan(found.value):
        values |= {name: found.value, f"ratio{end}": found.ratio}
        errors[f"ratio{end}"] = found.ratio_error
        if math.isfinite(found.error):
            errors[name] = found.error
    if not math.isnan(found.used):
        values[f"used{end}"], errors[f"used{end}"] = found.used, found.used_error
    if len(rates) == 1 and not math.isnan(found.value):
        values[f"critical_rate{end}"] = found.value * rates[0]
        if math.isfinite(found.error):
            errors[f"critical_rate{end}"] = found.error * rates[0]


def _shares(
    objective: Objective, w: Float[Tensor, " P"], step: Float[Tensor, " P"], by: By
) -> tuple[dict[str, float], str]:
    """The share of each block in the curvature along the step, where it began; a remark where there is none."""
    product = objective.hvp(step.to(w.dtype), w).double() * step
    whole = float(product.sum())
    if not whole > 8 * torch.finfo(w.dtype).eps * float(product.abs().sum()):
        return {}, "no shares, since the curvature along the step is not positive"
    blocks = blocks_of(objective.layout, by)
    return {f"share/{name}": sum(float(product[p].sum()) for p in own) / whole for name, own in blocks.items()}, ""
