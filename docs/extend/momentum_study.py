"""Add a study with two claims: what momentum does to the sharpness of a small network on images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import edgescope as es
from edgescope.claims import Measured, Open
from edgescope.experiments.selection import grouped, tagged
from edgescope.experiments.threshold_series import ThresholdSeries
from edgescope.statistics import Estimate
from edgescope.studies import STUDIES, Study, run_study
from edgescope.studies.tested_claim import Topic, claim
from edgescope.sweep import TrainTask

COHEN = "Cohen et al. 2021 (arXiv 2103.00065)"


@claim(
    "momentum.hovers",
    sentence="With or without momentum, the sharpness hovers around its threshold or above",
    source=COHEN,
    quantity="mean over time of the sharpness over its threshold, from arrival on",
    region=(0.9, math.inf),
    origin="ours: at most 10% below",
    each=tagged(method=["gd", "polyak"]),  # each run with one of these tags is one case
    figure="ratio",
)
def hovers(run) -> Estimate | Open:
    return ThresholdSeries.of(run).mean_after_arrival()  # open where the run never arrived


@claim(
    "momentum.sharper",
    sentence="At one learning rate, Polyak momentum allows a larger sharpness",
    source=COHEN,
    quantity="final sharpness with momentum over that without",
    region=(1.0, math.inf),
    origin="the thresholds are (2+2β)/η and 2/η",
    each=grouped("seed"),  # the runs of one seed together are one case
    status="derived",
    figure="ratio",
)
def sharper(runs) -> Measured | None:
    last = {run.tags["method"]: run.record.series("sharpness", "1")[1][-1] for run in runs}
    if len(last) < 2:
        return None  # a run failed: the claim does not speak of this seed
    return Measured(Estimate.single(last["polyak"] / last["gd"], error=2e-3), {"without momentum": last["gd"]})


@dataclass(frozen=True)
class MomentumStudy(Study):
    """Gradient descent with and without momentum."""

    name: ClassVar[str] = "momentum"
    title: ClassVar[str] = "Sharpness with and without momentum"
    abstract: ClassVar[str] = (
        "A network with 32 hidden units is trained on 300 images of Fashion-MNIST by full-batch gradient descent."
    )
    paper: ClassVar[str] = COHEN
    topics: ClassVar[Sequence[Topic]] = (Topic("Momentum", (hovers, sharper)),)

    def tasks(self, preset, seed):
        methods = {"gd": "sgd", "polyak": "sgd:momentum=0.5"}
        steps = 250 if preset == "quick" else 3000
        return [self.task(method, spec, seed + i, steps) for method, spec in methods.items() for i in range(2)]

    def task(self, method, optimizer, seed, steps):
        config = es.RunConfig(
            data="fashion-5k",
            model="mlp:widths=32,activation=tanh",
            optimizer=optimizer,
            lr=0.1,
            steps=steps,
            train=300,
            every=5,
            measures=("loss", "sharpness", "threshold", "ratio"),
            seed=seed,
            threads=1,
        )
        tags = {"method": method, "seed": str(seed)}
        return TrainTask(f"{method}-{seed}", config, cost=float(steps), tags=tags)

    def figures(self, runs):
        return []  # sharpness_figure.py shows how one is added


STUDIES.add("momentum", MomentumStudy)

if __name__ == "__main__":
    result = run_study(MomentumStudy(), Path("momentum-quick"))
    for finding in result.findings:
        print(f"{finding.id}: {finding.verdict}, {finding.why}")
    print(result.report)
