"""The claims about the test loss: where it has a U over learning rates, and where its lowest point lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean
from edgescope.studies.selection import Item
from edgescope.studies.tested_claim import Measured, Open, TestedClaim, claim
from edgescope.studies.tradeoff.curves import MATVEEV, Curve, networks
from edgescope.studies.tradeoff.over_rates import FEW

HIGHER = 1.01
"""How many times the smallest norm of a curve a norm must be to lie off the end of least norm."""


@dataclass(frozen=True, eq=False)
class Valley:
    """Test losses over the rates that all seeds of a network reached, from the flow's end to the largest rate.

    ``lowest`` is the place, short of both ends, at which the mean over seeds is least; ``loss`` and ``norm`` (l2) have
    a row a seed.
    """

    seeds: tuple[str, ...]
    ratio: Float[np.ndarray, " n"]
    loss: Float[np.ndarray, "s n"]
    norm: Float[np.ndarray, "s n"]

    @classmethod
    def of(cls, curves: Sequence[Curve]) -> Valley | None:
        """The valley of curves that differ in their seed; None where they have fewer than four rates in common.

        Rates are matched as multiples of the critical rate of each seed.
        """
        tables = [c.reached.select(pl.col("ratio").round(6), "test_loss", "l2").drop_nulls() for c in curves]
        common = sorted(set.intersection(*(set(table["ratio"]) for table in tables)))
        if len(common) < FEW:
            return None
        rows = [table.filter(pl.col("ratio").is_in(common)).sort("ratio") for table in tables]
        loss, norm = (np.stack([table[name].to_numpy() for table in rows]) for name in ("test_loss", "l2"))
        return cls(tuple(curve.name for curve in curves), np.array(common), loss, norm)

    @property
    def lowest(self) -> int:
        """The index of the rate short of both ends at which the mean loss is least."""
        return 1 + int(np.argmin(self.loss.mean(0)[1:-1]))

    @property
    def ends(self) -> Float[np.ndarray, "s 2"]:
        """By seed, how far the loss at the first and the last rate lies above that at the lowest, as shares of it."""
        return self.loss[:, [0, -1]] / self.loss[:, [self.lowest]] - 1

    @property
    def depth(self) -> Estimate:
        """The mean over seeds of the smaller of the two: negative where the loss is least at an end."""
        return sample_mean(self.ends.min(1))


def _by_seed(curves: list[Curve]) -> list[Item[Measured]]:
    valley = Valley.of(curves)
    if valley is None:
        return []
    found, at = [], float(valley.ratio[valley.lowest])
    for name, (left, right) in zip(valley.seeds, valley.ends.tolist(), strict=True):
        beside = {"lowest at η/η_c": at, "rise to the flow's end": left, "rise to the largest learning rate": right}
        found.append(Item(name, Measured(Estimate(min(left, right)), beside, "one seed: the mean is judged")))
    return found


def _shape(words: str, data: str, loss: str, tags: tuple[str, str], shape: str) -> TestedClaim[Measured]:
    return claim(
        f"tradeoff.{words}",
        sentence=f"On {data} in its place) with {loss} the test loss has {shape} over learning rates",
        source=f"{MATVEEV}, claim 5",
        quantity="rise of the test loss from its lowest point inside to the lower of both ends, over the lowest",
        region=(-np.inf, 0.0) if shape == "no U" else (0.0, np.inf),
        origin="given with the claim: a lowest point inside, beyond the spread of seeds",
        status="second hand",
        scope="average",
        each=networks(network="MLP", data=tags, loss=LOSSES[loss], varied="none").expand(_by_seed),
        figure="networks",
        how="Test losses at the same training loss, at the multiples of η_c that all seeds reached. The lowest point "
        "is that of the mean over the same seeds, of all learning rates but the first and the last; the rise is "
        "negative where the loss is lower at an end. The mean over seeds has the interval of Student's t.",
    )(lambda rise: rise)


@claim(
    "tradeoff.lowest-off-least-norm",
    sentence="Where the test loss has a U, its lowest point is never at the end of least norm",
    source=f"{MATVEEV}, claim 6",
    quantity="|w|₂ at the lowest test loss over the least of the curve, mean over seeds",
    region=(HIGHER, np.inf),
    origin="ours: 1% above; the paper's statement is qualitative",
    status="second hand",
    each=networks(),
    figure="networks",
    how="Of networks with a U: the interval of its depth over seeds (see the claims about its shape) lies above zero.",
)
def off_least_norm(curves: list[Curve]) -> Measured | Open | None:
    valley = Valley.of(curves)
    if valley is None:
        return Open(f"fewer than {FEW} learning rates that all seeds reached", "more learning rates")
    depth = valley.depth
    beside = {"depth of the U": depth, "lowest at η/η_c": Estimate.exact(valley.ratio[valley.lowest])}
    if not depth.known:
        return Open("one seed, which cannot tell a U from chance", "more seeds", beside=beside)
    if depth.high < 0:
        return None
    if depth.low <= 0:
        return Open("no U that its seeds tell from chance", "more seeds", beside=beside)
    over = valley.norm[:, valley.lowest] / valley.norm.min(1)
    return Measured(sample_mean(over), beside)


LOSSES = {"the half-squared loss": "mse", "cross-entropy": "cross-entropy"}
MNIST, CIFAR = "MNIST (handwritten digits", "CIFAR-10 (Fashion-MNIST"
IMAGES = ("fashion-5k", "cifar10-5k")
TEST_LOSS = (
    _shape("digits-mse-has-u", MNIST, "the half-squared loss", ("digits", "mnist"), "a clear U"),
    _shape("images-ce-has-u", CIFAR, "cross-entropy", IMAGES, "a U"),
    _shape("images-mse-has-no-u", CIFAR, "the half-squared loss", IMAGES, "no U"),
    off_least_norm,
)
