"""Effective sharpness over stability threshold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from edgescope.errors import NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.effective_sharpness import EffectiveSharpness
from edgescope.measures.reading import Reading
from edgescope.options import check_fields, real


@dataclass
class Ratio(Measure):
    """Effective sharpness over stability threshold: 1 at the edge of stability.

    The effective sharpness is that of the run's own measure where it has one.

    Parts as those of the threshold: with several optimizers "" is that of all together, and each has one of its own.
    0 at learning rate 0. Where training is seen to step on mini-batches a note says so, since the run may be at the
    edge in another quantity (:class:`BatchSharpnessMeasure`, :class:`HeadroomMeasure` on its own batch).
    """

    tol: float = 1e-3
    _effective: EffectiveSharpness = field(init=False, repr=False)

    name: ClassVar[str] = "ratio"
    title: ClassVar[str] = "Effective sharpness over threshold"
    unit: ClassVar[str] = "1"
    source: ClassVar[str] = "Cohen et al. 2021 (arXiv 2103.00065) and 2022 (arXiv 2207.14484)"
    needs: ClassVar[Needs] = "products"
    uses: ClassVar[tuple[str, ...]] = ("sharpness", "generalized_sharpness", "effective_sharpness")
    needs_step: ClassVar[bool] = True
    needs_rule: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'", tol=real(above=0, below=1))
        self._effective = EffectiveSharpness(tol=self.tol)

    def read(self, moment: Moment) -> Reading:
        moment.known_rule()
        found = moment.get(self._effective)
        if not found.values:
            raise NotKnownError(found.note)
        rules = {"": moment.rule, **moment.rules}
        values, errors = {}, {}
        for part, value in found.values.items():
            threshold = replace(moment, rule=rules[part]).threshold().value
            values[part] = value / threshold
            if part in found.errors:
                errors[part] = found.errors[part] / threshold
        notes = dict.fromkeys([*found.note.split("; "), *moment.scale_note().split("; "), moment.mini_batch_note()])
        return Reading(self.name, values, errors, note="; ".join(filter(None, notes)), failed=found.failed)

    def dependencies(self) -> tuple[Measure, ...]:
        return self._effective, *self._effective.dependencies()

    def state(self) -> dict[str, Any]:
        return self._effective.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self._effective.load_state(state)
