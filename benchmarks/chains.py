"""What compiling saves: chains and linear networks a step, against the same replicas as one batched tensor.

One process, one thread, seconds of that thread, medians of several rounds in turn; the table goes to
``docs/benchmarks.md``. ``--quick`` takes fewer steps, to see that it runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from curvature import write
from threadpoolctl import threadpool_limits

from edgescope.simulate.chains import chains
from edgescope.simulate.linear_data import Gaussian
from edgescope.simulate.linear_nets import balanced_nets, simulate
from edgescope.theory.deep_linear import Mode

DECAY, LR, TEMPERATURE = 0.3, 0.05, 0.001
SIZES = (2, 10, 10, 2)


def compiled_chains(steps: int, replicas: int) -> None:
    chains(Mode(3, 1.0), DECAY, lr=LR, steps=steps, level=1e9, temperature=TEMPERATURE, replicas=replicas, threads=1)


def batched_chains(steps: int, replicas: int) -> None:
    w = torch.zeros(replicas, 3, dtype=torch.float64)
    for _ in range(steps):
        a, b, c = w.T
        rest = torch.stack([b * c, a * c, a * b], 1)
        slope = DECAY * w - (1 - a * b * c)[:, None] * rest
        w = w - LR * slope + (2 * LR * TEMPERATURE) ** 0.5 * torch.randn_like(w)


def compiled_nets(steps: int, replicas: int) -> None:
    nets = balanced_nets(np.diag([0.8, 0.0]), SIZES, replicas)
    simulate(
        Gaussian(np.diag([0.9, 0.8])), nets, SIZES, decay=DECAY, lr=LR, steps=steps, temperature=TEMPERATURE, threads=1
    )


def batched_nets(steps: int, replicas: int) -> None:
    C = torch.diag(torch.tensor([0.9, 0.8], dtype=torch.float64))
    W = [torch.zeros(replicas, b, a, dtype=torch.float64) for a, b in pairwise(SIZES)]
    for _ in range(steps):
        under = W[1] @ W[0]
        slope = W[2] @ under - C
        back = W[2].mT @ slope
        gradients = (W[1].mT @ back, back @ W[0].mT, slope @ under.mT)
        noise = (2 * LR * TEMPERATURE) ** 0.5
        W = [w - LR * (g + DECAY * w) + noise * torch.randn_like(w) for w, g in zip(W, gradients, strict=True)]


CASES = (
    ("chain of 3, Langevin", 8, compiled_chains, batched_chains, 200_000, 1000),
    ("chain of 3, Langevin", 400, compiled_chains, batched_chains, 4000, 500),
    ("network 2-10-10-2, Langevin", 8, compiled_nets, batched_nets, 20_000, 500),
    ("network 2-10-10-2, Langevin", 400, compiled_nets, batched_nets, 400, 50),
)


def rate(simulate: Callable[[int, int], None], steps: int, replicas: int) -> float:
    """Steps of all replicas in a second of one core, in millions."""
    start = time.process_time()
    simulate(steps, replicas)
    return replicas * steps / (time.process_time() - start) / 1e6


def measured(rounds: int, shorter: int) -> list[str]:
    """(p) The table, a row a model."""
    lines = ["| model | replicas | million steps a second and core | over one batched tensor |", "|---|---|---|---|"]
    for name, replicas, compiled, batched, many, few in CASES:
        compiled(10, 2)  # compiles, or reads what was
        pairs = [
            (rate(compiled, many // shorter, replicas), rate(batched, few // shorter, replicas)) for _ in range(rounds)
        ]
        speed, ratio = (statistics.median(column) for column in zip(*((a, a / b) for a, b in pairs), strict=True))
        lines.append(f"| {name} | {replicas} | {speed:.2g} | {ratio:.{0 if ratio > 10 else 1}f} |")
    return lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="few steps, nothing written")
    given = options.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    table = measured(1 if given.quick else 5, 20 if given.quick else 1)
    target = "A step is one of one replica; target: a million steps of a chain a second and core."
    lines = ["## (p) Compiled chains and linear networks", "", target, "", *table]
    print("\n".join(lines))
    if not given.quick:
        write("p", lines, "float64")


if __name__ == "__main__":
    main()
