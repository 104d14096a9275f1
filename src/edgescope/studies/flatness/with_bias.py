"""The claims about networks with bias: flatter under 1-SAM than under weight decay, and yet worse on fresh samples."""

from __future__ import annotations

from typing import Any

from edgescope.claims import Measured, Open
from edgescope.experiments.flatness.seed_runs import AccuracyCurve, Pair, SeedRuns, answer, pairs, seed_runs
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean
from edgescope.statistics.welch import mean_difference
from edgescope.studies.flatness.generalization import final_accuracy
from edgescope.studies.stated_claim import stated_claim
from edgescope.studies.tested_claim import TestedClaim

FLAT = 1.2
"""Trace over the least one up to which a network counts as flat."""

GAP = 0.2
"""Fall of the test accuracy from which on it is said to degenerate."""


def _flatter(pair: Pair) -> Measured | Open:
    beside = {f"{words}: {name}": row for words, run in _named(pair) for name, row in run.beside().items()}
    stop = pair[0].not_fitted or pair[1].not_fitted
    return answer(stop, mean_difference(pair[0].last("trace"), pair[1].last("trace")), beside)


def _worse(pair: Pair) -> Measured | Open:
    gap = mean_difference(pair[0].last("test_error"), pair[1].last("test_error"))
    beside = {f"{words}: test accuracy": run.accuracy for words, run in _named(pair)}
    return answer(pair[0].not_fitted or pair[1].not_fitted, gap, beside)


def _named(pair: Pair) -> zip[tuple[str, SeedRuns]]:
    return zip(("1-SAM", "weight decay"), pair, strict=True)


def _against_decay(network: str, decay: str) -> tuple[TestedClaim[Pair], TestedClaim[Pair]]:
    """1-SAM finds a flatter network than weight decay by the method ``decay`` does, and one that errs more."""
    each = pairs(network, "1SAM", decay)
    flatter = stated_claim(f"flatness.{network}-flatter", each=each)(_flatter)
    return flatter, stated_claim(f"flatness.{network}-fails", each=each)(_worse)


def _degenerates(network: str, epochs: int) -> tuple[TestedClaim[AccuracyCurve], ...]:
    """1-SAM first generalizes; then the test accuracy falls; and that begins after about so many epochs."""
    each = seed_runs(network=network, method="1SAM").map(AccuracyCurve.of)

    @stated_claim(f"flatness.{network}-first-generalizes", each=each)
    def first_generalizes(curve: AccuracyCurve) -> Measured:
        return Measured(sample_mean(curve.accuracy[curve.best]), {"at epoch": float(curve.epochs[curve.best])})

    @stated_claim(f"flatness.{network}-degenerates", each=each)
    def degenerates(curve: AccuracyCurve) -> Measured | Open:
        last = curve.epochs[-1]
        short = Open(f"{last:,.0f} epochs", f"about {epochs:,} epochs") if last <= epochs // 10 else None
        return answer(short, sample_mean(curve.fall), {"at the end": sample_mean(curve.accuracy[-1])})

    @stated_claim(f"flatness.{network}-degenerates-when", each=each)
    def degenerates_when(curve: AccuracyCurve) -> Measured | Open:
        fall = float(curve.fall.mean())
        stop = Open(f"the test accuracy falls by {fall:.2g} only", "a run that degenerates") if fall < GAP else None
        return answer(stop, Estimate.exact(curve.epochs[curve.best]), {})

    return first_generalizes, degenerates, degenerates_when


@stated_claim("flatness.any-width-fails", each=seed_runs(network=("bias", "bias-narrow"), method="1SAM"))
def any_width_fails(run: SeedRuns) -> Measured | Open:
    return final_accuracy(run) if run.not_fitted else answer(not_flat(run), run.accuracy, run.beside())


def not_flat(run: SeedRuns, least: float = 1.0) -> Open | None:
    """Why nothing said of flattest networks is tested, where the trace is far above ``least`` times its bound."""
    excess = sample_mean(run.excess).value / least
    return None if excess <= FLAT else Open(f"trace {excess:.3g} times the least one", "more epochs")


WITH_BIAS: tuple[TestedClaim[Any], ...] = (
    *_against_decay("bias", "GD"),
    *_against_decay("softplus", "SGD"),
    *_against_decay("logistic", "SGD"),
    *_against_decay("three-layers", "SGD"),
    *_degenerates("bias", 4_000),
    *_degenerates("logistic", 2_000),
    any_width_fails,
)
