"""The sharpness that the optimizer sees: of the effective Hessian, in its own metric or geometry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.linalg import EigenTracker
from edgescope.measures.generalized_sharpness import GeneralizedSharpness
from edgescope.measures.measure import Measure, Moment, Needs, Reading
from edgescope.measures.optimizer_geometry import is_of_geometry
from edgescope.measures.sharpness import Sharpness, eigenvalue_reading


@dataclass
class EffectiveSharpness(Measure):
    """The largest eigenvalue of the effective Hessian M^(-1/2) (H + shift) M^(-1/2), to compare with the threshold.

    M is the optimizer's preconditioner in the step just taken (so there is none before the first), the shift its
    coupled weight decay. Without a preconditioner it follows from the sharpness, whose reading is shared: nothing is
    paid twice. Cost otherwise: that of one tracked eigenvalue.

    Steepest descent in a geometry where no eigenvalue decides sees the lower end of the generalized sharpness there,
    over the dual norm of the gradient where it is normalized: taken from the measure ``generalized_sharpness``, or else
    found without a certificate for some 10 products.
    """

    tol: float = 1e-3
    _raw: Sharpness = field(init=False, repr=False)
    _general: GeneralizedSharpness = field(init=False, repr=False)
    _tracker: EigenTracker | None = field(default=None, init=False, repr=False)
    _continue_from: dict[str, Any] | None = field(default=None, init=False, repr=False)

    name: ClassVar[str] = "effective_sharpness"
    title: ClassVar[str] = "Effective sharpness"
    unit: ClassVar[str] = "that of the threshold"
    source: ClassVar[str] = "Cohen et al. 2022 (arXiv 2207.14484)"
    needs: ClassVar[Needs] = "products"
    uses: ClassVar[tuple[str, ...]] = ("sharpness", "generalized_sharpness")

    def __post_init__(self) -> None:
        self._raw = Sharpness(k=1, tol=self.tol)
        self._general = GeneralizedSharpness(certificate=0, tol=self.tol)

    def read(self, moment: Moment) -> Reading:
        rule = moment.known_rule()
        if is_of_geometry(rule):
            return self._in_geometry(moment, rule.threshold().value)
        metric, added = rule.metric(), _same_everywhere(rule.shift())
        if metric is None and added is not None:
            raw: Reading = moment.shared.get("sharpness") or self._raw.take(moment)
            if "1" not in raw.values:
                raise NotKnownError(raw.note)
            return Reading(self.name, {"": raw.values["1"] + added}, {"": raw.errors["1"]}, note=raw.note)
        if self._tracker is None:
            self._tracker = EigenTracker(moment.objective, k=1, tol=self.tol)
            if self._continue_from is not None:
                self._tracker.load_state(self._continue_from)
        pairs = self._tracker.update(rule.effective(moment.objective.operator()), metric=metric)
        found = eigenvalue_reading(self.name, pairs)
        return Reading(self.name, {"": found.values["1"]}, {"": found.errors["1"]}, note=found.note)

    def _in_geometry(self, moment: Moment, threshold: float) -> Reading:
        shared: Reading | None = moment.shared.get("generalized_sharpness")
        found = shared if shared is not None and "ratio" in shared.values else self._general.take(moment)
        if "ratio" not in found.values:
            raise NotKnownError(found.note or "the gradient is zero")
        errors = {"": found.errors["ratio"] * threshold} if "ratio" in found.errors else {}
        return Reading(self.name, {"": found.values["ratio"] * threshold}, errors, note=found.note)

    def state(self) -> dict[str, Any]:
        tracker = {} if self._tracker is None else self._tracker.state()
        return {"raw": self._raw.state(), "tracker": tracker, "general": self._general.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._raw.load_state(state["raw"])
        self._general.load_state(state["general"])
        self._tracker, self._continue_from = None, state["tracker"] or None


def _same_everywhere(shift: Float[Tensor, " P"] | None) -> float | None:
    """What the shift adds to every eigenvalue; None where it differs between parameters."""
    if shift is None:
        return 0.0
    return float(shift[0]) if bool((shift == shift[0]).all()) else None
