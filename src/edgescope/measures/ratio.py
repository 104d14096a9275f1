"""How close to the edge: effective sharpness over threshold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from edgescope.errors import NotKnownError
from edgescope.measures.effective_sharpness import EffectiveSharpness
from edgescope.measures.measure import Measure, Moment, Needs, Reading


@dataclass
class Ratio(Measure):
    """Effective sharpness over stability threshold: 1 at the edge of stability. Shares the effective sharpness."""

    tol: float = 1e-3
    _effective: EffectiveSharpness = field(init=False, repr=False)

    name: ClassVar[str] = "ratio"
    title: ClassVar[str] = "Effective sharpness over threshold"
    unit: ClassVar[str] = "1"
    source: ClassVar[str] = "Cohen et al. 2021 (arXiv 2103.00065) and 2022 (arXiv 2207.14484)"
    needs: ClassVar[Needs] = "products"
    uses: ClassVar[tuple[str, ...]] = ("sharpness", "generalized_sharpness", "effective_sharpness")

    def __post_init__(self) -> None:
        self._effective = EffectiveSharpness(tol=self.tol)

    def read(self, moment: Moment) -> Reading:
        threshold = moment.known_rule().threshold().value
        found: Reading = moment.shared.get("effective_sharpness") or self._effective.take(moment)
        if "" not in found.values:
            raise NotKnownError(found.note)
        values, errors = ({part: x / threshold for part, x in of.items()} for of in (found.values, found.errors))
        return Reading(self.name, values, errors, note=found.note)

    def state(self) -> dict[str, Any]:
        return self._effective.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self._effective.load_state(state)
