"""The claims about the test error: where it has a U over learning rates, and where its lowest point lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from edgescope.report import Finding, Verdict
from edgescope.studies.seen import together
from edgescope.studies.tradeoff.curves import MATVEEV, Curve

STAND_INS = {
    "digits-MSE": ("Handwritten digits with the half-squared loss (for MNIST): the test loss has a clear U", True),
    "MLP-CE": ("Fashion-MNIST with cross-entropy (for CIFAR-10): the test loss has a U", True),
    "MLP-MSE": ("Fashion-MNIST with the half-squared loss (for CIFAR-10): the test loss has no U", False),
}
"""By the group of its curves the claim on each pair of data and loss, and whether it is that there is a U. The paper's
own data are not at hand; what stands in for them is named in the claim."""

HIGHER = 1.01
"""How many times the smallest norm of a curve a norm must be to lie off the end of least norm."""


@dataclass(frozen=True)
class Valley:
    """Test losses over the rates that all seeds of a network reached, from the flow's end to the largest rate.

    ``ratio`` and ``loss`` (mean over seeds) by rate; ``left`` and ``right`` how far the lowest mean lies below the
    loss at either end, as mean and standard deviation over seeds; ``norm`` is the l2 norm (mean over seeds) by rate.
    """

    seeds: int
    ratio: Float[np.ndarray, " n"]
    loss: Float[np.ndarray, " n"]
    norm: Float[np.ndarray, " n"]
    left: tuple[float, float]
    right: tuple[float, float]

    @property
    def lowest(self) -> int:
        return int(np.argmin(self.loss))

    @property
    def verdict(self) -> Verdict:
        """Whether there is a U: a lowest point inside that lies below both ends by more than the spread of seeds."""
        if self.seeds < 2 or len(self.ratio) < 4:
            return "inconclusive"
        deep = all(depth > spread for depth, spread in (self.left, self.right))
        return "holds" if 0 < self.lowest < len(self.ratio) - 1 and deep else "fails"

    @property
    def figures(self) -> dict[str, float]:
        """Depths are shares of the lowest loss."""
        low = float(self.loss[self.lowest])
        return {
            "seeds": self.seeds,
            "lowest at η/η_c": float(self.ratio[self.lowest]),
            "below the flow's end": self.left[0] / low,
            "spread there": self.left[1] / low,
            "below the largest rate": self.right[0] / low,
            "spread there too": self.right[1] / low,
        }


def valley(curves: list[Curve]) -> Valley | None:
    """The valley of curves that differ in their seed; None where they have no rates in common.

    Rates are matched as multiples of the critical rate of each seed.
    """
    tables = [c.reached.select(pl.col("ratio").round(6), "test_loss", "l2").drop_nulls() for c in curves]
    common = sorted(set.intersection(*(set(table["ratio"]) for table in tables))) if tables else []
    if not common:
        return None
    rows = [table.filter(pl.col("ratio").is_in(common)).sort("ratio") for table in tables]
    losses = np.stack([table["test_loss"].to_numpy() for table in rows])
    mean = losses.mean(0)
    lowest = int(np.argmin(mean))

    def below(end: int) -> tuple[float, float]:
        depth = losses[:, end] - losses[:, lowest]
        return float(depth.mean()), float(depth.std(ddof=1)) if len(depth) > 1 else float("nan")

    norm = np.stack([table["l2"].to_numpy() for table in rows]).mean(0)
    return Valley(len(curves), np.array(common), mean, norm, below(0), below(-1))


def valleys(curves: Mapping[str, Curve]) -> dict[str, Valley]:
    """By group, of all groups that have rates in common."""
    groups: dict[str, list[Curve]] = {}
    for curve in curves.values():
        groups.setdefault(curve.group, []).append(curve)
    found = {group: valley(members) for group, members in groups.items()}
    return {group: one for group, one in found.items() if one is not None}


def valley_findings(curves: Mapping[str, Curve]) -> list[Finding]:
    """Claims 5 and 6."""
    found = valleys(curves)
    return [*(_shape(found.get(group), claim, wanted) for group, (claim, wanted) in STAND_INS.items()), _place(found)]


def _shape(one: Valley | None, claim: str, wanted: bool) -> Finding:
    shape: Verdict = "inconclusive" if one is None else one.verdict
    opposite: dict[Verdict, Verdict] = {"holds": "fails", "fails": "holds", "inconclusive": "inconclusive"}
    return Finding(
        claim=claim,
        source=f"{MATVEEV}, claim 5",
        expected=f"{'a' if wanted else 'no'} lowest point inside that lies below both ends by more than the standard "
        "deviation over seeds",
        measured={} if one is None else one.figures,
        verdict=shape if wanted else opposite[shape],
        why="Test losses at the same training loss, at the multiples of η_c that all seeds reached; depths as shares "
        "of the lowest loss. The place of the lowest point is that of the mean over seeds.",
        status="second-hand, for other data",
    )


def _place(found: Mapping[str, Valley]) -> Finding:
    measured: dict[str, float] = {}
    verdicts: list[Verdict] = []
    for group, one in found.items():
        if one.verdict != "holds":
            continue
        over = float(one.norm[one.lowest] / one.norm.min())
        measured |= {f"{group}: lowest at η/η_c": float(one.ratio[one.lowest]), f"{group}: l2 / least l2": over}
        verdicts.append("holds" if over > HIGHER else "fails")
    return Finding(
        claim="Where the test loss has a U, its lowest point is never at the end of least norm",
        source=f"{MATVEEV}, claim 6",
        expected=f"an l2 norm above {HIGHER} times the smallest of the curve, wherever there is a U",
        measured=measured,
        verdict=together(verdicts),
        why=f"{len(verdicts)} of {len(found)} networks have a U that their seeds tell from chance.",
        status="second-hand, qualitative; the limit is ours",
    )
