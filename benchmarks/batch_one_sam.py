"""What a compiled step of single-sample SAM costs: over the PyTorch optimizer's, and over what it must read and write.

One process, one thread, float64, the paper's network (500 neurons, 30 inputs, 100 samples); medians of several rounds
in turn; the table goes to ``docs/benchmarks.md``. ``--quick`` takes fewer steps, to see that it runs.
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
from edgescope.simulate.relu import ReluDescent

NETWORKS = {
    "without bias": "architecture=no-bias",
    "bias": "architecture=bias",
    "layer norm": "architecture=layernorm,first=0.01",
    "batch norm, 40 neurons": "architecture=batchnorm,width=40",
}
TARGET = 10.0
"""Microseconds a step."""


def measured(rounds: int, steps: int) -> list[str]:
    """The table, one row for each architecture."""
    data = DATA.build("xor:dim=30,train=100").load()
    x, y = data.inputs.double(), data.targets.double()
    lines = ["| network | µs a step | 1e5 epochs, s | PyTorch's SAM over it | over one product and one update |"]
    lines.append("|---|---|---|---|---|")
    for name, spec in NETWORKS.items():
        model = MODELS.build(f"shallow:{spec}").build((30,), 1, 0)
        descent = ReluDescent(model, x, y, lr=0.005, rho=0.05)
        descent.advance(steps)
        few = steps // 100
        own, theirs, floor = [], [], []
        for _ in range(rounds):
            own.append(timed(partial(descent.advance, steps), steps))
            theirs.append(timed(partial(by_torch, model, x, y, few), few))
            floor.append(timed(partial(product_and_update, descent._first, steps), steps))
        mine = statistics.median(own)
        over = statistics.median(other / one for other, one in zip(theirs, own, strict=True))
        least = statistics.median(one / other for one, other in zip(own, floor, strict=True))
        lines.append(f"| {name} | {1e6 * mine:.1f} | {1e7 * mine:.0f} | {over:.0f} | {least:.1f} |")
    target = f"Target: under {TARGET:g} µs a step for 500 neurons, 1e5 epochs of 100 samples in under 120 s."
    return [*lines, "", f"{target} In float64."]


def timed(work: Callable[[], object], steps: int) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) / steps


def by_torch(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> None:
    """The same steps by the optimizer."""
    model = model.double()
    if hasattr(model.norm, "running_var"):
        model.normalize_over(x)  # type: ignore[operator]
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.005, rho=0.05)
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
    table = measured(1 if given.quick else 5, 2_000 if given.quick else 50_000)
    lines = ["## (bs) Single-sample SAM, compiled", "", *table]
    print("\n".join(lines))
    if not given.quick:
        write("bs", lines)


if __name__ == "__main__":
    main()
