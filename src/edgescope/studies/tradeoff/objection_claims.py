"""What reviewers ask: whether the growth of the norm is oscillation, and what the scale of weights does."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from edgescope.claims import Measured, Open
from edgescope.experiments.selection import CaseSelection, Item, tagged
from edgescope.experiments.study_run import StudyRun
from edgescope.experiments.tradeoff.curves import Curve, sharpening_curves
from edgescope.experiments.tradeoff.over_rates import rank_trend, slope, slope_ratio, with_rows
from edgescope.statistics.estimate import Estimate
from edgescope.studies.stated_claim import stated_claim
from edgescope.studies.tested_claim import TestedClaim
from edgescope.studies.tradeoff.network_claims import ALIGNED


def _growth_kept(column: str, curve: Curve) -> Measured | Open:
    """The growth of a norm in which oscillation has died out, over that of the last iterates' norm."""
    rows = curve.between(1.0).drop_nulls([column])
    x, last, y = (rows[name].to_numpy() for name in ("ratio", "l1", column))
    growth = slope(x, last)
    if isinstance(growth, Open):
        return growth
    if not growth.low > 0:
        return Open("nothing grows that could be oscillation", "a norm that grows", beside={"slope": growth})
    return with_rows(slope_ratio(x, y, last), {"slope of |w|₁, last iterates": growth})


OSCILLATION = tuple(
    stated_claim(f"tradeoff.growth-kept-{kind}", each=sharpening_curves())(partial(_growth_kept, f"{kind}_l1"))
    for kind in ("averaged", "decayed")
)


def _trend(column: str, curve: Curve) -> Measured | Open:
    """How a column falls with the rate, and beside it the raw sharpness and the path norm."""
    rows = curve.between(ALIGNED)
    ratio = rows["ratio"].to_numpy()
    named = {column: "judged", "sharpness": "τ of the raw sharpness", "path_norm": "τ of the path norm"}
    trends = {
        title: rank_trend(ratio, rows[name].to_numpy()) for name, title in named.items() if rows[name].null_count() == 0
    }
    return with_rows(trends.pop("judged", Open("not measured")), trends)


ADAPTIVE_FALLS = tuple(
    stated_claim(f"tradeoff.{kind}-adaptive-sharpness-falls", each=sharpening_curves())(partial(_trend, column))
    for kind, column in (("average", "adaptive"), ("worst", "adaptive_worst"))
)


def _over_first(*keys: tuple[str, str]) -> CaseSelection[Measured]:
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


def _rescaling(words: str, *keys: tuple[str, str]) -> TestedClaim[Measured]:
    return stated_claim(f"tradeoff.rescaling-{words}", each=_over_first(*keys))(lambda change: change)


SCALE: tuple[TestedClaim[Any], ...] = (
    *ADAPTIVE_FALLS,
    _rescaling("keeps-function", ("loss", "train")),
    _rescaling("changes-sharpness", ("sharpness", "1")),
    _rescaling("keeps-adaptive", ("average_sharpness", ""), ("worst_case_sharpness", ""), ("path_norm", "")),
)
