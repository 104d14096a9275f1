"""The sharpness at which the optimizer, with its hyper-parameters of now, turns unstable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgescope.measures.measure import Measure, Moment, Needs, Reading


@dataclass
class Threshold(Measure):
    """The stability threshold of the optimizer, to compare with the effective sharpness; the note is its formula."""

    name: ClassVar[str] = "threshold"
    title: ClassVar[str] = "Stability threshold"
    unit: ClassVar[str] = "that of the effective sharpness"
    source: ClassVar[str] = "Cohen et al. 2021 (arXiv 2103.00065) and 2022 (arXiv 2207.14484)"
    needs: ClassVar[Needs] = "nothing"

    def read(self, moment: Moment) -> Reading:
        threshold = moment.known_rule().threshold()
        return Reading(self.name, {"": threshold.value}, note=threshold.formula)
