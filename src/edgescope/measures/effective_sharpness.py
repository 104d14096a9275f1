"""The sharpness that decides on the optimizer's stability: of the effective Hessian, in its own metric or geometry."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.linalg import EigenTracker
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.generalized_sharpness import GeneralizedSharpnessMeasure
from edgescope.measures.optimizer_geometry import is_of_geometry
from edgescope.measures.reading import Reading
from edgescope.measures.sharpness import SHARES, Sharpness, eigenvalue_reading, shares_of_tensors
from edgescope.options import check_fields, real


@dataclass
class EffectiveSharpness(Measure):
    """The largest eigenvalue of the effective Hessian M^(-1/2) (H + shift) M^(-1/2), to compare with the threshold.

    M is the optimizer's preconditioner in the step just taken (so there is none before the first), the shift its
    coupled weight decay. Without a preconditioner it follows from the measure ``sharpness``, that of the run where it
    has one, at no further cost. Its error is an estimated bound. Cost otherwise: that of one tracked eigenvalue.

    For steepest descent in a geometry where stability is not decided by an eigenvalue, it is the lower bound of the
    generalized sharpness there, over the dual norm of the gradient where it is normalized: that of the measure
    ``generalized_sharpness`` of the run, or else computed without a certificate for some 10 products.

    The array "layers" has the share of the squared norm of the eigenvector v of this matrix, which is M^(1/2) times a
    direction in parameter space, in each parameter tensor, in the order of the layout: where it is not that of the
    measure ``sharpness``, and none in a geometry.

    With several optimizers part "" is that of all together, in the metric in which their threshold is 1, and each has a
    part of its own, named after it: that of its own parameters while the others stand still.
    """

    tol: float = 1e-3
    _raw: Sharpness = field(init=False, repr=False)
    _general: GeneralizedSharpnessMeasure = field(init=False, repr=False)
    _tracker: EigenTracker | None = field(default=None, init=False, repr=False)
    _continue_from: dict[str, Any] | None = field(default=None, init=False, repr=False)
    _parts: dict[str, EffectiveSharpness] = field(default_factory=dict, init=False, repr=False)

    name: ClassVar[str] = "effective_sharpness"
    title: ClassVar[str] = "Effective sharpness"
    unit: ClassVar[str] = "that of the threshold"
    source: ClassVar[str] = "Cohen et al. 2022 (arXiv 2207.14484)"
    needs: ClassVar[Needs] = "products"
    uses: ClassVar[tuple[str, ...]] = ("sharpness", "generalized_sharpness")
    needs_step: ClassVar[bool] = True
    needs_rule: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'", tol=real(above=0, below=1))
        self._raw = Sharpness(k=1, tol=self.tol)
        self._general = GeneralizedSharpnessMeasure(certificate=0, tol=self.tol)

    def read(self, moment: Moment) -> Reading:
        return self._of_each(moment) if moment.rules else self._of_one(moment)

    def _of_each(self, moment: Moment) -> Reading:
        found = {}
        for part, rule in {"": moment.rule, **moment.rules}.items():
            measure = self._parts.setdefault(part, EffectiveSharpness(tol=self.tol))
            found[part] = measure.take(replace(moment, rule=rule, rules={}))
        known = {part: reading for part, reading in found.items() if reading.values}
        notes = [f"{part}: {reading.note}" if part else reading.note for part, reading in found.items() if reading.note]
        if not known:
            raise NotKnownError("; ".join(notes))
        return Reading(
            self.name,
            {part: reading.values[""] for part, reading in known.items()},
            {part: reading.errors[""] for part, reading in known.items() if reading.errors},
            {} if "" not in known else known[""].arrays,
            note="; ".join(notes),
            failed=any(reading.failed for reading in found.values()),
        )

    def _of_one(self, moment: Moment) -> Reading:
        rule = moment.known_rule()
        if is_of_geometry(rule):
            return self._in_geometry(moment, rule.threshold().value)
        metric, shift = rule.metric(), rule.shift()
        scale = 1.0 if shift is None else moment.gradient_scale()
        added = _same_everywhere(shift, scale)
        if metric is None and added is not None:
            raw = moment.get(self._raw)
            if "1" not in raw.values:
                raise NotKnownError(raw.note)
            return Reading(self.name, {"": raw.values["1"] + added}, {"": raw.errors["1"]}, note=raw.note)
        if self._tracker is None:
            self._tracker = EigenTracker(moment.objective, k=1, tol=self.tol)
            if self._continue_from is not None:
                self._tracker.load_state(self._continue_from)
        gradient = moment.objective.gradient() if rule.gradients > 1 else None
        effective = rule.effective(moment.objective.operator(), scale, gradient)
        pairs = self._tracker.update(effective, metric=metric)
        found = eigenvalue_reading(self.name, pairs)
        vector = pairs.vectors[:, :1] if metric is None else metric.root(pairs.vectors[:, :1])
        shares = {SHARES: shares_of_tensors(vector[:, 0], moment.objective.layout)}
        return Reading(self.name, {"": found.values["1"]}, {"": found.errors["1"]}, shares, note=found.note)

    def _in_geometry(self, moment: Moment, threshold: float) -> Reading:
        of_run = moment.measures.get(self._general.name)
        elsewhere = isinstance(of_run, GeneralizedSharpnessMeasure) and of_run.geometry != ""
        found = self._general.take(moment) if elsewhere else moment.get(self._general)
        if "ratio" not in found.values:
            raise NotKnownError(found.note or "the gradient is zero")
        errors = {"": found.errors["ratio"] * threshold} if "ratio" in found.errors else {}
        return Reading(self.name, {"": found.values["ratio"] * threshold}, errors, note=found.note)

    def dependencies(self) -> tuple[Measure, ...]:
        return self._raw, self._general

    def state(self) -> dict[str, Any]:
        # Before the first measurement since a state was loaded, that one's.
        tracker = (self._continue_from or {}) if self._tracker is None else self._tracker.state()
        parts = {part: measure.state() for part, measure in self._parts.items()}
        return {"raw": self._raw.state(), "tracker": tracker, "general": self._general.state(), "parts": parts}

    def load_state(self, state: dict[str, Any]) -> None:
        self._raw.load_state(state["raw"])
        self._general.load_state(state["general"])
        self._tracker, self._continue_from = None, state["tracker"] or None
        self._parts = {}
        for part, own in state.get("parts", {}).items():
            self._parts[part] = EffectiveSharpness(tol=self.tol)
            self._parts[part].load_state(own)


def _same_everywhere(shift: Float[Tensor, " P"] | None, scale: float) -> float | None:
    """What the shift adds to every eigenvalue; None where it differs between parameters."""
    if shift is None:
        return 0.0
    return float(shift[0]) / scale if bool((shift == shift[0]).all()) else None
