"""The sharpness at which the optimizer, with its present hyper-parameters, becomes unstable."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from edgescope.errors import NotKnownError
from edgescope.measures.base import Measure, Moment, Needs
from edgescope.measures.reading import Reading


@dataclass
class ThresholdMeasure(Measure):
    """The stability threshold of the optimizer, to compare with the effective sharpness; the note is its formula.

    Where training is found to scale its gradients (clipping, a sum in place of a mean) or its steps, the threshold is
    that of the steps it takes. It is infinite at learning rate 0. With several optimizers part "" is the threshold of
    all together, and one part for each, named after it, that of its own parameters while the others stand still.
    """

    name: ClassVar[str] = "threshold"
    title: ClassVar[str] = "Stability threshold"
    unit: ClassVar[str] = "that of the effective sharpness"
    source: ClassVar[str] = "Cohen et al. 2021 (arXiv 2103.00065) and 2022 (arXiv 2207.14484)"
    needs: ClassVar[Needs] = "nothing"
    may_be_infinite: ClassVar[bool] = True
    needs_step: ClassVar[bool] = True
    needs_rule: ClassVar[bool] = True

    def read(self, moment: Moment) -> Reading:
        values, notes = {}, []
        for part, rule in {"": moment.rule, **moment.rules}.items():
            try:
                threshold = replace(moment, rule=rule).threshold()
            except NotKnownError as error:
                if not moment.rules:
                    raise
                notes.append(f"{part}: {error}" if part else str(error))
                continue
            values[part] = threshold.value
            notes.append(f"{part}: {threshold.formula}" if part else threshold.formula)
        if not values:
            raise NotKnownError("; ".join(notes))
        return Reading(self.name, values, note="; ".join(filter(None, [*notes, moment.scale_note()])))
