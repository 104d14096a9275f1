"""What a whole curve over learning rates saves: all rates in one program, over the same rates one by one.

One process, one thread, in seconds of its processor, some 60 in all; the table goes to ``docs/benchmarks.md``.
``--quick`` takes fewer rates, to see that it runs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from curvature import write
from threadpoolctl import threadpool_limits

from edgescope.allocator import keep_freed_memory
from edgescope.theory.diagonal import Problem
from edgescope.training import RunConfig, descent_at, train
from edgescope.training.batched_training import train_batched

NETWORKS = {
    "MLP 64-32-32-10, 200 samples": ("digits:train=200,test=300", "mlp:widths=32x32"),
    "MLP 196-50-50-10, 200 samples": ("fashion-5k:train=200,test=300,pool=2", "mlp:widths=50x50"),
    "CNN 8-8, 100 samples": ("fashion-5k:train=100,test=300,pool=2", "cnn:channels=8x8,activation=tanh"),
}


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def of_networks(rates: int, steps: int) -> list[str]:
    """Descent at rates over a decade for as many steps as take each the same time, without measurements."""
    lines = []
    for name, (data, model) in NETWORKS.items():
        base = RunConfig(data=data, model=model, stop_loss=0.0, steps=steps, threads=1, path="kept")
        configs = {
            f"x{number}": replace(descent_at(base, lr, ("loss@end",)), steps=max(1, int(steps * 0.01 / lr)))
            for number, lr in enumerate(np.geomspace(0.01, 0.1, rates).tolist())
        }
        with tempfile.TemporaryDirectory() as folder:
            places = {run: Path(folder) / "together" / run for run in configs}
            together = seconds(lambda c=configs, p=places, f=folder: train_batched(c, p, Path(f)))  # type: ignore[misc]
            alone = sum(
                seconds(lambda c=config, p=Path(folder) / "alone" / run: train(c, p)) for run, config in configs.items()
            )
        lines.append(f"| {name} | {rates} | {alone / together:.1f} |")
    return lines


def of_diagonal(rates: int, rounds: int) -> str:
    """The compiled grid over the same steps in NumPy."""
    problem, start = Problem([2.0, 1.0], 2.0), 1e-3
    lrs = np.linspace(0.1, 1.5, rates) * problem.critical_lr()
    problem.descend(lrs, start)  # compiled

    def plain() -> None:
        for lr in lrs:
            w = np.full(2, start)
            while (residual := float(w * w @ problem.x - problem.y)) ** 2 / 2 >= 1e-12:
                w = w - lr * 2 * residual * w * problem.x

    ratios = [seconds(plain) / seconds(lambda: problem.descend(lrs, start)) for _ in range(rounds)]
    return f"| diagonal network, one sample (over NumPy) | {rates} | {statistics.median(ratios):.0f} |"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="few rates, nothing written")
    given = options.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    keep_freed_memory()
    rows = [*of_networks(3, 20), of_diagonal(3, 1)] if given.quick else [*of_networks(16, 300), of_diagonal(25, 5)]
    lines = ["## (t) A curve over learning rates", "", "| descent | rates | faster than one by one |", "|---|---|---|"]
    print("\n".join([*lines, *rows]))
    if not given.quick:
        write("t", [*lines, *rows])


if __name__ == "__main__":
    main()
