"""The claims about networks with bias: flatter under 1-SAM than under weight decay, and yet worse on fresh samples."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean
from edgescope.studies.flatness.generalization import ALMOST, GAP, PERFECT, SEEDS, TOLERANCE, final_accuracy
from edgescope.studies.flatness.seed_runs import (
    WEN,
    Pair,
    SeedRuns,
    answer,
    mean_difference,
    mean_ratio,
    pairs,
    seed_runs,
)
from edgescope.studies.tested_claim import Measured, Open, TestedClaim, claim

FLAT = 1.2
"""Trace over the least one up to which a network counts as flat."""

RATES = (
    "With Welch's interval, at the end of training. The rates and radii are the paper's, but for gradient descent "
    "outside of the preset paper, whose rate is ten times as large."
)


def _flatter(pair: Pair) -> Measured | Open:
    beside = {f"{words}: {name}": row for words, run in _named(pair) for name, row in run.beside().items()}
    stop = pair[0].not_fitted or pair[1].not_fitted
    return answer(stop, mean_ratio(pair[0].last("trace"), pair[1].last("trace")), beside)


def _worse(pair: Pair) -> Measured | Open:
    gap = mean_difference(pair[0].last("test_error"), pair[1].last("test_error"))
    beside = {f"{words}: test accuracy": run.accuracy for words, run in _named(pair)}
    return answer(pair[0].not_fitted or pair[1].not_fitted, gap, beside)


def _named(pair: Pair) -> zip[tuple[str, SeedRuns]]:
    return zip(("1-SAM", "weight decay"), pair, strict=True)


def _against_decay(network: str, words: str, decay: str, where: str) -> tuple[TestedClaim[Pair], TestedClaim[Pair]]:
    """With bias 1-SAM finds a flatter network than weight decay does, and one that errs more."""
    method = "gradient descent" if decay == "GD" else "SGD"
    stated = partial(claim, source=f"{WEN}, {where}", each=pairs(network, "1SAM", decay))
    figure = "minimizers" if network == "bias" else ""
    flatter = stated(
        f"flatness.{network}-flatter",
        sentence=f"{words} 1-SAM finds flatter networks than {method} with weight decay",
        quantity="trace of the Hessian under 1-SAM over that under weight decay",
        region=(0.0, 1.0),
        origin="the order of the two",
        figure=figure,
        how=f"Ratio of the geometric means over seeds of the trace of the Gauss-Newton matrix. {RATES}",
    )(_flatter)
    worse = stated(
        f"flatness.{network}-fails",
        sentence=f"{words} 1-SAM does not generalize where {method} with weight decay does",
        quantity="test accuracy under weight decay less that under 1-SAM",
        region=(GAP, np.inf),
        origin=TOLERANCE,
        figure=figure or "variants",
        how=f"Difference of the means over seeds. {RATES}",
    )(_worse)
    return flatter, worse


Curve = tuple[int, Float[np.ndarray, " moments"], Float[np.ndarray, "moments seeds"]]
"""Where the mean test accuracy over seeds is highest, the epochs, and the accuracies of every seed."""


def _curve(run: SeedRuns) -> Curve | None:
    if not run.seeds:
        return None
    epochs, errors = run.series("test_error")
    return int(np.argmin(errors.mean(1))), epochs, 1 - errors


def _degenerates(network: str, words: str, epochs: int, where: str) -> tuple[TestedClaim[Curve], ...]:
    """1-SAM first generalizes; then the test accuracy falls; and that begins after about so many epochs."""
    soonest = epochs // 10
    stated = partial(
        claim,
        source=f"{WEN}, {where}",
        each=seed_runs(network=network, method="1SAM").map(_curve),
        figure="variants",
        how="Of the means over seeds, measured at epochs evenly spaced in their logarithm, so that no early peak is "
        f"missed. Open where a run has less than {soonest:,} epochs, and the epoch of the fall where there is none.",
    )

    @stated(
        f"flatness.{network}-first-generalizes",
        sentence=f"{words} 1-SAM first generalizes",
        quantity="highest test accuracy during training",
        region=(PERFECT, np.inf),
        origin=TOLERANCE,
    )
    def first_generalizes(curve: Curve) -> Measured:
        best, at, accuracy = curve
        return Measured(sample_mean(accuracy[best]), {"at epoch": float(at[best])})

    @stated(
        f"flatness.{network}-degenerates",
        sentence=f"{words} the test accuracy of 1-SAM degenerates in the course of training",
        quantity="highest test accuracy during training less the last one",
        region=(GAP, np.inf),
        origin=TOLERANCE,
    )
    def degenerates(curve: Curve) -> Measured | Open:
        best, at, accuracy = curve
        short = Open(f"{at[-1]:,.0f} epochs", f"about {epochs:,} epochs") if at[-1] <= soonest else None
        return answer(short, sample_mean(accuracy[best] - accuracy[-1]), {"at the end": sample_mean(accuracy[-1])})

    @stated(
        f"flatness.{network}-degenerates-when",
        sentence=f"{words} the test accuracy of 1-SAM begins to degenerate after some {epochs:,} epochs",
        quantity="epoch of the highest mean test accuracy",
        region=(soonest, epochs * 10),
        origin="the paper, to an order of magnitude either way",
        unit="epochs",
    )
    def degenerates_when(curve: Curve) -> Measured | Open:
        best, at, accuracy = curve
        fall = float((accuracy[best] - accuracy[-1]).mean())
        stop = Open(f"the test accuracy falls by {fall:.2g} only", "a run that degenerates") if fall < GAP else None
        return answer(stop, Estimate.exact(at[best]), {})

    return first_generalizes, degenerates, degenerates_when


@claim(
    "flatness.any-width-fails",
    sentence="That 1-SAM with bias does not generalize does not depend on the width",
    source="question of this study: the paper has width 500",
    quantity="test accuracy",
    region=(-np.inf, ALMOST),
    origin="ours: less than is called almost perfect",
    status="ours",
    each=seed_runs(network=("bias", "bias-narrow"), method="1SAM"),
    names_cases=True,
    figure="variants",
    how=f"{SEEDS} Open where the trace is more than {FLAT:g} times the least one. Equally flat networks of either kind "
    "exist at both widths, 500 and 100.",
)
def any_width_fails(run: SeedRuns) -> Measured | Open:
    return final_accuracy(run) if run.not_fitted else answer(not_flat(run), run.accuracy, run.beside())


def not_flat(run: SeedRuns, least: float = 1.0) -> Open | None:
    """Why nothing said of flattest networks is tested, where the trace is far above ``least`` times its bound."""
    excess = sample_mean(run.excess).value / least
    return None if excess <= FLAT else Open(f"trace {excess:.3g} times the least one", "more epochs")


WITH_BIAS: tuple[TestedClaim[Any], ...] = (
    *_against_decay("bias", "With bias", "GD", "figure 4"),
    *_against_decay("softplus", "With bias and softplus", "SGD", "appendix"),
    *_against_decay("logistic", "With bias under the logistic loss", "SGD", "appendix"),
    *_against_decay("three-layers", "With bias and three layers", "SGD", "appendix"),
    *_degenerates("bias", "With bias", 4_000, "figure 4"),
    *_degenerates("logistic", "With bias under the logistic loss", 2_000, "appendix"),
    any_width_fails,
)
