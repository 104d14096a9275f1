"""What reviewers ask: whether the growth of the norm is oscillation, and what the scale of weights does."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgescope.statistics.estimate import Estimate
from edgescope.studies.selection import Item, Selection, tagged
from edgescope.studies.study_run import StudyRun
from edgescope.studies.tested_claim import Measured, Open, TestedClaim, claim
from edgescope.studies.tradeoff.curves import REVIEWS, Curve, sharpening_curves
from edgescope.studies.tradeoff.networks import ALIGNED
from edgescope.studies.tradeoff.over_rates import rank_trend, slope, slope_ratio, with_rows

KEPT = 0.5
"""The share of a norm's growth that must be left when what oscillates is taken out."""

FALLS = -0.5
"""Kendall's tau below which a quantity falls with the rate."""

SAME = 1e-4
"""Relative change of a loss that counts as none, in float32: 1e-6 in float64, a hundred times that here."""


def _no_oscillation(kind: str, words: str) -> TestedClaim[Curve]:
    @claim(
        f"tradeoff.growth-kept-{kind}",
        sentence=f"The growth of the l1 norm with the learning rate is no oscillation: {words} keep it",
        source=REVIEWS,
        quantity="slope of their |w|₁ with η/η_c over that of the last iterates",
        region=(KEPT, np.inf),
        origin="ours: half of the growth",
        status="ours",
        each=sharpening_curves(),
        figure="objections",
        how="The interval is that of the bootstrap over learning rates, resampled in common for both slopes.",
    )
    def kept(curve: Curve) -> Measured | Open:
        column = f"{kind}_l1"
        rows = curve.between(1.0).drop_nulls([column])
        x, last, y = (rows[name].to_numpy() for name in ("ratio", "l1", column))
        growth = slope(x, last)
        if isinstance(growth, Open):
            return growth
        if not growth.low > 0:
            return Open("nothing grows that could be oscillation", "a norm that grows", beside={"slope": growth})
        return with_rows(slope_ratio(x, y, last), {"slope of |w|₁, last iterates": growth})

    return kept


def _scale_free(kind: str, column: str) -> TestedClaim[Curve]:
    @claim(
        f"tradeoff.{kind}-adaptive-sharpness-falls",
        sentence=f"Sharpness that does not depend on the scale of weights ({kind} case) falls above the critical "
        "learning rate too",
        source=REVIEWS,
        quantity="Kendall's τ of adaptive sharpness with the learning rate",
        region=(-1.0, FALLS),
        origin="ours: a clear fall",
        status="ours",
        each=sharpening_curves(),
        figure="objections",
        how=f"Over the learning rates from {ALIGNED} critical ones on, with the interval of the bootstrap over them. "
        "Adaptive sharpness disturbs every weight by a share of its own size. The raw sharpness is given beside it, "
        "and the path norm, where there is one, which no rescaling changes either.",
    )
    def falls(curve: Curve) -> Measured | Open:
        rows = curve.between(ALIGNED)
        ratio = rows["ratio"].to_numpy()
        named = {column: "judged", "sharpness": "τ of the raw sharpness", "path_norm": "τ of the path norm"}
        trends = {
            title: rank_trend(ratio, rows[name].to_numpy())
            for name, title in named.items()
            if rows[name].null_count() == 0
        }
        return with_rows(trends.pop("judged", Open("not measured")), trends)

    return falls


def _over_first(*keys: tuple[str, str]) -> Selection[Measured]:
    """The relative change of these measures from the first to the last rescaling, a case each."""

    def changes(run: StudyRun) -> list[Item[Measured]]:
        found = []
        for measure, part in keys:
            values = run.record.series(measure, part)[1]
            over = float(values[-1] / values[0]) if values.size > 1 else np.nan
            change = Measured(Estimate.exact(abs(over - 1)), {"last over first": over})
            found.append(Item(f"{run.name}: {measure.replace('_', ' ')}", change))
        return found

    return tagged(role="rescaled").expand(changes)


def _rescaled(words: str, sentence: str, region: tuple[float, float], origin: str, *keys: tuple[str, str]) -> Any:
    return claim(
        f"tradeoff.rescaling-{words}",
        sentence=f"Rescaling the weights of a ReLU network {sentence}",
        source="Dinh et al. 2017 (arXiv 1703.04933)",
        quantity="relative change of the measure",
        region=region,
        origin=origin,
        status="derived",
        each=_over_first(*keys),
        how="A ReLU network, its first layer doubled and the next halved, three times. So a raw sharpness says nothing "
        "about a function by itself; along a curve of learning rates from one initialisation it is compared with "
        "itself.",
    )(lambda change: change)


INVARIANT = (("average_sharpness", ""), ("worst_case_sharpness", ""), ("path_norm", ""))
IN_FLOAT32 = "derived: exact; 1e-4 for rounding in float32"
BY_SEARCH = "derived: exact; 2% for the draws of the average and the search of the worst case"
OSCILLATION = (
    _no_oscillation("averaged", "means of the next iterates"),
    _no_oscillation("decayed", "iterates after a last phase of steps a tenth as long"),
)
SCALE = (
    _scale_free("average", "adaptive"),
    _scale_free("worst", "adaptive_worst"),
    _rescaled("keeps-function", "does not change its loss", (0.0, SAME), IN_FLOAT32, ("loss", "train")),
    _rescaled("changes-sharpness", "changes its sharpness", (0.5, np.inf), "ours: by half or more", ("sharpness", "1")),
    _rescaled(
        "keeps-adaptive", "does not change its adaptive sharpness and path norm", (0.0, 0.02), BY_SEARCH, *INVARIANT
    ),
)
