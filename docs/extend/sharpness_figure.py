"""Add a figure to the report of a study: a kind of chart, the table that it draws, and the claim that it shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import altair as alt
import polars as pl

import edgescope as es
from edgescope.experiments.selection import whole
from edgescope.figures import Figure
from edgescope.statistics import Estimate
from edgescope.studies import STUDIES, Study, run_study
from edgescope.studies.tested_claim import Topic, claim
from edgescope.sweep import TrainTask


def phase_curves(table):
    """Sharpness against loss, a curve a run, of a table with the columns run, step, loss and sharpness."""
    return (
        alt.Chart(alt.InlineData(values=table.to_dicts()))
        .mark_line(point=True)
        .encode(
            x=alt.X("loss", type="quantitative", title="training loss", scale=alt.Scale(type="log", nice=False)),
            y=alt.Y("sharpness", type="quantitative", title="sharpness"),
            color=alt.Color("run", type="nominal", title=None),
            order=alt.Order("step", type="quantitative"),
        )
    )


def sharpness_against_loss(runs):
    """The figure of a study, from its runs by name."""
    pieces = [
        run.record.wide("loss/train", "sharpness/1")
        .rename({"loss/train": "loss", "sharpness/1": "sharpness"})
        .with_columns(run=pl.lit(name))
        .drop_nulls()
        for name, run in runs.items()
    ]
    caption = "Each point is one reading; training goes from right to left."
    return Figure("sharpness-against-loss", "Sharpness against loss", caption, phase_curves(pl.concat(pieces)))


@claim(
    "rates.flatter",
    sentence="A network trained at a larger learning rate ends with less sharpness",
    source="Cohen et al. 2021 (arXiv 2103.00065)",
    quantity="final sharpness at the larger learning rate over that at the smaller",
    region=(0.0, 1.0),
    origin="any difference",
    each=whole("both learning rates"),  # all runs together are one case
    figure="sharpness-against-loss",  # the card of the claim links to it
)
def flatter(runs):
    small, large = sorted(runs, key=lambda run: float(run.tags["lr"]))
    return Estimate.single(final(large, "sharpness", "1") / final(small, "sharpness", "1"), error=2e-3)


def final(run, measure, part):
    return run.record.series(measure, part)[1][-1]


@dataclass(frozen=True)
class RatesStudy(Study):
    """Two learning rates, one claim, one figure."""

    name: ClassVar[str] = "rates"
    title: ClassVar[str] = "Sharpness against loss at two learning rates"
    abstract: ClassVar[str] = (
        "A network with 32 hidden units is trained on 300 images of Fashion-MNIST by full-batch gradient descent."
    )
    paper: ClassVar[str] = "Cohen et al. 2021 (arXiv 2103.00065)"
    topics: ClassVar[Sequence[Topic]] = (Topic("Learning rates", (flatter,)),)

    def tasks(self, preset, seed):
        base = es.RunConfig(
            data="fashion-5k",
            model="mlp:widths=32,activation=tanh",
            steps=100,
            train=300,
            every=5,
            measures=("loss", "sharpness"),
            seed=seed,
            threads=1,
        )
        return [
            TrainTask(name, config, cost=1.0, tags={"lr": str(config.lr)})
            for name, config in es.sweep.grid(base, lr=[0.05, 0.1]).items()
        ]

    def figures(self, runs):
        return [sharpness_against_loss(runs)]


STUDIES.add("rates", RatesStudy)

if __name__ == "__main__":
    result = run_study(RatesStudy(), Path("rates-quick"))
    print(result.findings[0].verdict, result.report)
    assert (result.report.parent / "figures" / "sharpness-against-loss.svg").exists()
