"""Learning coefficients against closed forms, and how often limits of R-hat refuse and accept wrongly.

Prints the tables of ``docs/learning_coefficient.md``: ``--golden`` the linear networks on 10,000 samples, one call
each (some 10 minutes of one core), and without it what limits of R-hat do with 20 calls each (some 2 minutes), with
``--fresh`` on other problems and other noise than those on which the limits were set.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

import edgescope as es
from edgescope.linalg import top_eigenpairs
from edgescope.phases.chain_options import ChainOptions
from edgescope.phases.mixing import CHANCE, R_HAT, SLACK, largest_r_hat_of_distances
from edgescope.phases.sgld_edge import Localized
from edgescope.phases.sgld_run import sample
from edgescope.progress import no_progress
from edgescope.statistics.markov_chains import ChainTrace
from edgescope.theory.reduced_rank import reduced_rank

sys.path.append(str(Path(__file__).parent.parent / "tests" / "phases"))

from quadratics import linear_network, quadratic

GOLDEN: Final[tuple[tuple[tuple[int, int, int], int, dict[str, Any]], ...]] = (
    ((3, 2, 3), 0, {}),
    ((4, 2, 4), 0, {}),
    ((3, 2, 3), 2, {}),
    ((3, 2, 3), 2, {"gamma": 20.0, "step": 1.825e-4, "chains": 64}),
    ((3, 2, 3), 2, {"step": 1.84e-4, "chains": 32, "times": 4.0, "burn_in": 1.0}),
)
CALLS, CHAINS = 20, 8
LENGTHS = ((0.05, 0.15), (1.0, 1.0), (2.0, 2.0), (2.0, 8.0))
Problems = dict[str, tuple[es.Objective, float]]
"""Losses by name, with the inverse temperature n β of each."""

POWER_LAW = [i**-1.5 for i in range(1, 41)] + [0.0] * 10
RULES = {
    "present": lambda times: (R_HAT, largest_r_hat_of_distances(times, CHAINS)),
    "1.1 and 1.3": lambda _: (1.1, 1.3),
    "1.01": lambda _: (1.01, 1.01),
}


def golden() -> None:
    print("| network, true rank | options | closed form | estimate | R-hat of loss, distance | steps |")
    print("|---|---|---|---|---|---|")
    for widths, rank, options in GOLDEN:
        found = es.learning_coefficient(linear_network(list(widths), rank), n=10_000, **options)
        given = ", ".join(f"`{name}={value:g}`" for name, value in options.items()) or "defaults"
        print(
            f"| {'-'.join(map(str, widths))}, {rank} | {given} | {reduced_rank(*widths, rank).coefficient} | "
            f"{found.value:.3f} ± {found.error:.3f} | {found.r_hat:.3f}, {found.r_hat_distance:.2f} | "
            f"{found.burn_in + found.steps:,} |",
            flush=True,
        )


def call(trace: ChainTrace, which: int) -> ChainTrace:
    chosen = slice(CHAINS * which, CHAINS * (which + 1))
    return ChainTrace(trace.means[:, chosen], trace.squares[:, chosen])


def drifts(trace: ChainTrace, zero: float) -> bool:
    first, second = (float(half.mean()) - zero for half in trace.halves())
    return trace.drift() < CHANCE and abs(second - first) > SLACK * abs(float(trace.means.mean()) - zero)


def first_problems() -> Problems:
    """Those of the first runs, after which the limits were set."""
    small = 300 / math.log(300)
    return {
        "quadratic: 1, 0.3 and one flat direction": (quadratic([1.0, 0.3, 0.0]), 100.0),
        "quadratic: 40 eigenvalues i^-1.5, 10 flat directions": (quadratic(POWER_LAW), 100.0),
        "linear 3-2-3, true rank 0": (linear_network([3, 2, 3], 0), small),
        "linear 3-2-3, true rank 1": (linear_network([3, 2, 3], 1), small),
    }


def fresh_problems() -> Problems:
    """Others, chosen before they were run."""
    small = 300 / math.log(300)
    return {
        "quadratic: 20 eigenvalues 1/i, 5 flat directions": (
            quadratic([1 / i for i in range(1, 21)] + [0.0] * 5),
            100.0,
        ),
        "linear 4-3-4, true rank 1": (linear_network([4, 3, 4], 1), small),
        "linear 2-2-2-2, true rank 1": (linear_network([2, 2, 2, 2], 1), small),
        "tanh 3-4-2, at its teacher": (tanh_network(), small),
    }


def tanh_network() -> es.Objective:
    """A tanh network on 60 samples, at the weights that made their targets, where the loss is 0."""
    generator = torch.Generator().manual_seed(11)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(0.7 * torch.randn(weights.shape, generator=generator, dtype=torch.float64))
        inputs = torch.randn(60, 3, generator=generator, dtype=torch.float64)
        targets = model(inputs)
    return es.Objective(model, es.supervised(es.losses.half_mse), (inputs, targets))


def limits(problems: Problems, seed: int) -> None:
    """What the limits say of 20 calls, apart from the shortest length of chains, and whether the values are right.

    The last column has how many of the calls that the present limits accept hold the truth within 1, 2 and 3 errors.
    """
    heads = " | ".join(f"accepted: {name}" for name in RULES)
    print(f"| problem | burn-in, length | off by (median) | {heads} | wrong | inside 1, 2, 3 errors |")
    print(f"|---|---|---|{'---|' * len(RULES)}---|---|")
    for name, (objective, scale) in problems.items():
        rows = {length: of_calls(objective, Localized(scale, 1.0), length, seed) for length in LENGTHS}
        truth = float(np.mean(rows[LENGTHS[-1]][0]))
        for (burn_in, times), (values, errors, r_hats, drift) in rows.items():
            off = values / truth - 1
            wrong = (np.abs(off) > 0.05) & (np.abs(values - truth) > 3 * errors)
            cells, inside = [], ""
            for rule in RULES.values():
                accepted = (r_hats <= np.array(rule(times))).all(1) & ~drift
                cells.append(f"{accepted.sum()} ({(accepted & wrong).sum()})")
                near = [int((accepted & (np.abs(values - truth) <= k * errors)).sum()) for k in (1, 2, 3)]
                inside = inside or "{}, {}, {}".format(*near)
            line = " | ".join((f"{burn_in:g}, {times:g}", f"{np.median(off):+.1%}", *cells, str(wrong.sum()), inside))
            print(f"| {name} | {line} |", flush=True)


def of_calls(
    objective: es.Objective, target: Localized, length: tuple[float, float], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Values, errors, R-hats of loss and distance, and whether there is a drift, of each call of 8 chains."""
    w = objective.parameters()
    loss, largest = float(objective.loss(w)), float(top_eigenpairs(objective.operator(w), 1, tol=0.05).values[0])
    options = ChainOptions(beta=1.0, n=10, chains=CALLS * CHAINS, burn_in=length[0], times=length[1], seed=seed)
    found = sample(objective, target, w, loss, largest, options, no_progress)
    assert found.losses is not None
    assert found.distances is not None
    calls = [(call(found.losses, i), call(found.distances, i)) for i in range(CALLS)]
    values = np.array([target.scale * (float(losses.means.mean()) - loss) for losses, _ in calls])
    errors = target.scale * np.array([np.nanmax([one.error_between(), one.error_within()]) for one, _ in calls])
    r_hats = np.array([[losses.r_hat(), distances.r_hat()] for losses, distances in calls])
    drift = np.array([drifts(losses, loss) or drifts(distances, 0.0) for losses, distances in calls])
    return values, errors, r_hats, drift


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--golden", action="store_true", help="the closed forms of linear networks")
    options.add_argument("--fresh", action="store_true", help="problems and noise on which no limit was set")
    torch.set_num_threads(1)
    given = options.parse_args()
    if given.golden:
        golden()
    elif given.fresh:
        limits(fresh_problems(), seed=101)
    else:
        limits(first_problems(), seed=0)


if __name__ == "__main__":
    main()
