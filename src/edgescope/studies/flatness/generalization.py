"""The claims about which of the paper's networks generalize under 1-SAM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgescope.claims import Measured, Open
from edgescope.experiments.flatness.seed_runs import Pair, SeedRuns, answer, seed_runs
from edgescope.experiments.selection import CaseSelection, Item
from edgescope.experiments.study_run import Runs
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.welch import mean_difference
from edgescope.studies.stated_claim import stated_claim
from edgescope.studies.tested_claim import TestedClaim


def final_accuracy(run: SeedRuns) -> Measured | Open:
    """The test accuracy at the end, open where the samples are not fitted."""
    return answer(run.not_fitted, run.accuracy, run.beside())


def _accuracy(name: str, networks: Sequence[str], methods: Sequence[str] = ("1SAM",)) -> TestedClaim[SeedRuns]:
    """A claim about the test accuracy of these networks."""
    return stated_claim(f"flatness.{name}", each=seed_runs(network=networks, method=methods))(final_accuracy)


def _by_seed(run: SeedRuns) -> Sequence[Item[tuple[SeedRuns, int]]]:
    return [Item(f"network {place + 1}", (run, place)) for place in range(len(run.seeds))]


@stated_claim("flatness.batchnorm-columns", each=seed_runs(network="batchnorm", method="1SAM").expand(_by_seed))
def batchnorm_columns(network: tuple[SeedRuns, int]) -> Measured:
    run, place = network
    ratio = Estimate.exact(run.last("column_ratio")[place])
    if place:
        return Measured(ratio)
    top = np.abs(run.neurons())[:4]
    smallest = float((top[:, :2].min(1) / top[:, 2:].max(1)).min())
    return Measured(ratio, {"smallest such ratio of four neurons": smallest})


def _ball(runs: Runs) -> list[Item[Pair]]:
    found = {item.factors["network"]: item.value for item in seed_runs(network=("ball-no-bias", "ball-bias"))(runs)}
    return [Item("ball", (found["ball-bias"], found["ball-no-bias"]))] if len(found) == 2 else []


@stated_claim("flatness.ball-no-bias-better", each=CaseSelection(_ball))
def ball_no_bias_better(pair: Pair) -> Measured:
    named = {"with bias": pair[0], "without bias": pair[1]}
    beside = {f"{words}: training loss": run.mean("training_loss") for words, run in named.items()}
    beside |= {f"{words}: test mean squared error": run.mean("test_error") for words, run in named.items()}
    return Measured(mean_difference(pair[0].last("test_error"), pair[1].last("test_error")), beside)


GENERALIZATION: tuple[TestedClaim[Any], ...] = (
    _accuracy("scenario-one-generalizes", ("no-bias", "batchnorm")),
    _accuracy("scenario-two-fails", ("bias",)),
    _accuracy("scenario-three-generalizes", ("layernorm",)),
    _accuracy("no-bias-generalizes", ("no-bias",), ("1SAM", "GD")),
    _accuracy("batchnorm-generalizes", ("batchnorm",)),
    batchnorm_columns,
    ball_no_bias_better,
)
