"""The claims about the test loss: where it has a U over learning rates, and where its lowest point lies."""

from __future__ import annotations

from edgescope.claims import Measured, Open
from edgescope.experiments.selection import Item
from edgescope.experiments.tradeoff.curves import Curve, networks
from edgescope.experiments.tradeoff.minimum_of_test_loss import Valley
from edgescope.experiments.tradeoff.over_rates import FEW
from edgescope.statistics.estimate import Estimate
from edgescope.statistics.means import sample_mean
from edgescope.studies.stated_claim import stated_claim
from edgescope.studies.tested_claim import TestedClaim

DIGITS, IMAGES = ("digits", "mnist"), ("fashion-5k", "cifar10-5k")
"""The data of the presets that stand for MNIST, and for CIFAR-10."""


def _by_seed(curves: list[Curve]) -> list[Item[Measured]]:
    valley = Valley.of(curves)
    if valley is None:
        return []
    found, at = [], float(valley.ratio[valley.lowest])
    for name, (left, right) in zip(valley.seeds, valley.ends.tolist(), strict=True):
        beside = {"lowest at η/η_c": at, "rise to the flow's end": left, "rise to the largest learning rate": right}
        found.append(Item(name, Measured(Estimate(min(left, right)), beside, "one seed: the mean is judged")))
    return found


def _shape(words: str, data: tuple[str, str], loss: str) -> TestedClaim[Measured]:
    each = networks(network="MLP", data=data, loss=loss, varied="none").expand(_by_seed)
    return stated_claim(f"tradeoff.{words}", each=each)(lambda rise: rise)


@stated_claim("tradeoff.lowest-off-least-norm", each=networks())
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


TEST_LOSS = (
    _shape("digits-mse-has-u", DIGITS, "mse"),
    _shape("images-ce-has-u", IMAGES, "cross-entropy"),
    _shape("images-mse-has-no-u", IMAGES, "mse"),
    off_least_norm,
)
