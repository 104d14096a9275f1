"""What a compiled step of single-sample SAM costs: over the PyTorch optimizer's, and over what it must read and write.

One process, one thread, float64, the paper's network (500 neurons, 30 inputs, 100 samples); medians of several rounds
in turn; the table goes to ``docs/benchmarks.md``. ``--quick`` takes fewer steps, to see that it runs. What is timed is
all that a simulation does: samples drawn, steps taken, weights put back into the network.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from curvature import write
from scipy.linalg import blas
from threadpoolctl import threadpool_limits

from edgescope.data import DATA
from edgescope.models import MODELS
from edgescope.optim import SAM
from edgescope.simulate.relu import ReluDescent, advance_together

NETWORKS = {
    "without bias": "architecture=no-bias",
    "bias": "architecture=bias",
    "layer norm": "architecture=layernorm,first=0.01",
    "softplus": "architecture=bias,activation=softplus",
    "three layers, 100 neurons": "architecture=bias,depth=3,width=100",
    "batch norm, 40 neurons": "architecture=batchnorm,width=40",
    "batch norm": "architecture=batchnorm",
}
SLOW = ("batch norm",)
"""Of these a tenth of the steps."""

TARGET = 10.0
"""Microseconds a step."""


def measured(rounds: int, steps: int) -> list[str]:
    """The table, one row for each architecture."""
    data = DATA.build("xor:dim=30,train=100").load()
    x, y = data.inputs.double(), data.targets.double()
    lines = ["| network | µs a step | over the target | PyTorch's SAM over it | over one product and one update |"]
    lines[0] += " 1e5 epochs of 100 samples, at this pace, s |"
    lines.append("|---|---|---|---|---|---|")
    for name, spec in NETWORKS.items():
        model = MODELS.build(f"shallow:{spec}").build((30,), 1, 0)
        descent = ReluDescent(model, x, y, lr=0.001, rho=0.05)
        taken = steps // 10 if name in SLOW else steps
        descent.advance(taken)
        few = max(20, steps // 200)
        own, theirs, floor = [], [], []
        for _ in range(rounds):
            own.append(timed(partial(descent.advance, taken), taken))
            theirs.append(timed(partial(by_torch, model, x, y, few), few))
            floor.append(timed(partial(product_and_update, descent._first, steps // 10), steps // 10))
        assert descent.finite
        mine = statistics.median(own)
        over = statistics.median(other / one for other, one in zip(theirs, own, strict=True))
        least = statistics.median(one / other for one, other in zip(own, floor, strict=True))
        figures = f"{1e6 * mine:.1f} | {1e6 * mine / TARGET:.2f} | {over:.0f} | {least:.1f} | {1e7 * mine:.0f}"
        lines.append(f"| {name} | {figures} |")
    return [
        *lines,
        "",
        f"Target: at most {TARGET:g} µs a step for 500 neurons, and 1e5 epochs of 100 samples within 120 s; the last",
        "column is the first times 1e7, not a run of that length. Times are those of the processor, so that other work",
        "on the machine counts little; by the clock, two seeds in two threads take "
        f"{beside(x, y, rounds, steps):.2f} times as long as one.",
    ]


def beside(x: torch.Tensor, y: torch.Tensor, rounds: int, steps: int) -> float:
    """The time of two simulations in two threads over that of one: 1 where each has a core, 2 where they share one."""
    model = MODELS.build("shallow:architecture=bias").build((30,), 1, 0)
    descents = [ReluDescent(model, x, y, lr=0.001, rho=0.05, seed=seed) for seed in range(2)]
    ratios = []
    for _ in range(rounds):
        both = timed(partial(advance_together, descents, steps, threads=2), steps, time.perf_counter)
        ratios.append(both / timed(partial(descents[0].advance, steps), steps, time.perf_counter))
    return statistics.median(ratios)


def timed(work: Callable[[], object], steps: int, clock: Callable[[], float] = time.process_time) -> float:
    began = clock()
    work()
    return (clock() - began) / steps


def by_torch(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> None:
    """The same steps by the optimizer."""
    model = model.double()
    if hasattr(model.norm, "running_var"):
        model.normalize_over(x)  # type: ignore[operator]
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.001, rho=0.05)
    for i in np.random.default_rng(0).integers(len(x), size=steps).tolist():

        def closure(i: int = i) -> torch.Tensor:
            optimizer.zero_grad()
            loss = (model(x[i : i + 1]) - y[i : i + 1]).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)


def product_and_update(weights: np.ndarray, steps: int) -> None:
    """What no step can do without: one product with the first layer, and one update of rank one, by BLAS."""
    matrix, x, g = np.asfortranarray(weights.T), np.ones(weights.shape[1]), np.zeros(len(weights))
    for _ in range(steps):
        blas.dgemv(1.0, matrix, x, trans=1)
        blas.dger(1.0, x, g, a=matrix, overwrite_a=1)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="few steps, nothing written")
    given = options.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    table = measured(1 if given.quick else 5, 2_000 if given.quick else 20_000)
    lines = ["## (bs) Single-sample SAM, compiled", "", *table]
    print("\n".join(lines))
    if not given.quick:
        write("bs", lines, "float64")


if __name__ == "__main__":
    main()
