"""What a verdict on a run says: its regime, the reasons, and the figures that each of them rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Regime = Literal[
    "flow-aligned",
    "sharpening",
    "at the edge",
    "beyond it and oscillating",
    "beyond it and diverging",
    "trapped",
    "saturated",
    "not known",
]

ADVICE: Final[dict[Regime, str]] = {
    "flow-aligned": "a larger learning rate is stable here, up to the one at which the ratio is 1",
    "sharpening": "nothing to change; the ratio reaches 1 if the sharpness keeps rising, and the loss then oscillates",
    "at the edge": "nothing to change; a larger learning rate settles at a lower sharpness, a smaller one at a higher",
    "beyond it and oscillating": "a smaller learning rate, or a longer warm-up, if the loss should not oscillate",
    "beyond it and diverging": "a learning rate below the present one over the ratio, a warm-up, or clipping",
    "trapped": "a smaller weight decay until the loss has fallen, or a start from larger weights",
    "saturated": "an earlier step, or dtype=torch.float64: the curvature there says little about the learning rate",
    "not known": "es.watch(..., measures=['loss', 'ratio', 'headroom']): the headroom is that of the steps that were"
    " taken, whatever the optimizer",
}


@dataclass(frozen=True)
class CitedFigure:
    """A number that a verdict rests on: the last or median ``value`` of a part of a measure, up to ``step``."""

    measure: str
    part: str
    step: int
    value: float

    def __str__(self) -> str:
        return f"{self.value:.3g}"


@dataclass(frozen=True)
class Reason:
    """A sentence, and the figures that it cites."""

    sentence: str
    figures: tuple[CitedFigure, ...]


@dataclass(frozen=True)
class Verdict:
    """What regime a run is in at the end of its record, why, and what to do; it costs nothing, as all was measured.

    ``regime``: "flow-aligned" (stable, and the sharpness does not rise), "sharpening" (stable, and it rises), "at the
    edge" of stability, "beyond it and oscillating", "beyond it and diverging", "trapped" (weight decay holds the
    weights near the origin), "saturated" (the curvature has gone with the loss, or units are dead), or "not known".
    ``reasons`` are sentences with the figures that they rest on; the first ones decide, later ones say what limits
    them. ``step`` is the last step with a reading.
    """

    regime: Regime
    reasons: tuple[Reason, ...]
    advice: str
    step: int

    @property
    def sentences(self) -> tuple[str, ...]:
        return tuple(reason.sentence for reason in self.reasons)

    @property
    def figures(self) -> tuple[CitedFigure, ...]:
        return tuple(figure for reason in self.reasons for figure in reason.figures)

    def __str__(self) -> str:
        whole = ". ".join(self.sentences)
        return f"{self.regime} (step {self.step}). {whole}. Advice: {self.advice}."
