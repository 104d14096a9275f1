"""Claims about closed forms and figures, which need no run: golden values, the saddle, the paper's slips."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from edgescope.claims import Answer, Measured
from edgescope.experiments.phases.linear_network import SIZES
from edgescope.experiments.selection import CaseSelection, Item
from edgescope.statistics.estimate import Estimate
from edgescope.studies.stated_claim import stated_claim
from edgescope.theory.deep_linear import Mode

T = TypeVar("T")

DECAYS = {1.0: (0.472470, 0.396850, 0.25, 0.5), 0.9: (0.410549, 0.344839, 0.225, 0.45)}
STATES = {
    0.10: (0.100100, 0.896283, 0.000501, 0.355682),
    0.30: (0.309132, 0.654465, 0.013898, 0.114990),
    0.396850: (0.431526, 0.5, 0.033721, 0.033721),
}
"""Tables of the corrected theory, computed apart, at depth 3: critical and coexistence decay and product by signal;
then for signal 1 saddle, product, and barriers up and down by decay."""


@dataclass(frozen=True)
class Golden:
    """A value of the closed form, what it has to be, and the unit of the last digit that is known."""

    name: str
    value: float
    known: float
    digit: float = 1e-6


def golden_values() -> list[Golden]:
    """The values of the closed forms that were computed apart."""
    found = []
    for signal, row in DECAYS.items():
        m = Mode(3, signal)
        names = ("critical decay", "coexistence decay", "critical product", "coexistence product")
        values = (m.critical_decay(), m.coexistence_decay(), m.critical_product(), m.coexistence_product())
        found += [Golden(f"{n}, signal {signal:g}", float(v), k) for n, v, k in zip(names, values, row, strict=True)]
    m, deep = Mode(3, 1.0), Mode(6, 1.0)
    for decay, row in STATES.items():
        names = ("saddle", "product", "barrier up", "barrier down")
        values = (m.saddle(decay), m.minimum_product(decay), m.barrier_up(decay), m.barrier_down(decay))
        found += [Golden(f"{n}, decay {decay:g}", float(v), k) for n, v, k in zip(names, values, row, strict=True)]
    return [
        *found,
        Golden("coexistence / critical decay, depth 3", m.coexistence_decay() / m.critical_decay(), 0.8399, 1e-4),
        Golden("coexistence / critical decay, depth 6", deep.coexistence_decay() / deep.critical_decay(), 0.5291, 1e-4),
        Golden("area of the loop", m.loop_area(), 0.338303),
        Golden("curvature of the saddle, decay 0.3", float(m.saddle_curvature(0.3)), 0.272603),
        Golden("Kramers time, decay 0.3, T 0.0031", float(m.kramers_time(0.3, 0.0031)), 972.5, 0.1),
    ]


def fixed(cases: dict[str, T]) -> CaseSelection[T]:
    """Cases that need no run."""
    return CaseSelection(lambda runs: [Item(name, value) for name, value in cases.items()])


@stated_claim("phases.golden-values", each=fixed({golden.name: golden for golden in golden_values()}))
def golden(one: Golden) -> Answer:
    return Measured(Estimate.exact(abs(one.value - one.known) / one.digit), {"closed form": one.value})


@stated_claim("phases.saddle-curvatures", each=fixed({f"depth {depth}": depth for depth in (3, 4, 6)}))
def saddle_curvatures(depth: int) -> Answer:
    mode = Mode(depth, 1.0)
    decay = 0.7 * mode.critical_decay()
    w = float(mode.saddle(decay))
    others = np.full((depth, depth), w ** (depth - 2)) * (1 - np.eye(depth))
    found = np.linalg.eigvalsh(w ** (2 * depth - 2) - (1 - w**depth) * others + decay * np.eye(depth))
    expected = np.array([-float(mode.saddle_curvature(decay)), *[2 * decay] * (depth - 1)])
    error = float(np.abs(found - expected).max() / decay)
    return Measured(Estimate.exact(error), {"lowest eigenvalue / decay": float(found[0] / decay)})


@stated_claim(
    "phases.depth-raises-barrier", each=fixed({f"depth {a} to {b}": (a, b) for a, b in pairwise((3, 4, 5, 6))})
)
def depth_raises(depths: tuple[int, int]) -> Answer:
    lower, higher = (float(Mode(depth, 1.0).barrier_up(0.1)) for depth in depths)
    return Measured(Estimate.exact(higher / lower), {"barrier": lower, "barrier of the deeper": higher})


@stated_claim("phases.barrier-at-small-decay", each=fixed({f"signal {signal:g}": signal for signal in (1.0, 0.8)}))
def small_decay(signal: float) -> Estimate:
    return Estimate.exact(float(Mode(3, signal).barrier_up(1e-3)) * 2 * signal**2 / 1e-3**3)


QUOTED = {"saddle": (float(Mode(3, 0.8).saddle(0.32)), 0.41), "barrier": (float(Mode(3, 0.8).barrier_up(0.32)), 0.003)}
"""Of signal 0.8 at decay 0.32: the closed form, and what the paper quotes."""


def solves(pair: tuple[float, float]) -> Answer:
    value, quoted = pair
    return Measured(Estimate.exact(value / quoted), {"closed form": value, "quoted": quoted})


quoted_saddle = stated_claim("phases.quoted-saddle", each=fixed({"signal 0.8": QUOTED["saddle"]}))(solves)
quoted_barrier = stated_claim("phases.quoted-barrier", each=fixed({"signal 0.8": QUOTED["barrier"]}))(solves)


@stated_claim("phases.number-of-parameters", each=fixed({"weights": 0, "weights and biases": sum(SIZES[1:])}))
def parameters(biases: int) -> Estimate:
    return Estimate.exact(float(sum(a * b for a, b in pairwise(SIZES)) + biases))


CLAIMS = (golden, saddle_curvatures, depth_raises, small_decay, quoted_saddle, quoted_barrier, parameters)
