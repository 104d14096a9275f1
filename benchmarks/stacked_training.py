"""What training many small networks together saves: one step of all over as many steps of one, on the same work.

One process, one thread, medians of several rounds in turn; the table goes to ``docs/benchmarks.md``. ``--quick`` takes
fewer steps, to see that it runs.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from curvature import write
from threadpoolctl import threadpool_limits

from edgescope.allocator import keep_freed_memory
from edgescope.data import DATA
from edgescope.losses import LOSSES, supervised
from edgescope.models import MODELS
from edgescope.training import Member, Stack
from edgescope.training.gradients import FromBatches

NETWORKS = (
    # name, data, model, networks, mini-batch
    ("MLP 49-16-16-10", "fashion-5k:train=1000,pool=4", "mlp:widths=16x16,activation=relu,bias=false", 8, 16),
    ("MLP 49-16-16-10", "fashion-5k:train=1000,pool=4", "mlp:widths=16x16,activation=relu,bias=false", 25, 16),
    ("MLP 196-16-16-10", "fashion-5k:train=1000,pool=2", "mlp:widths=16x16,activation=relu,bias=false", 15, 64),
    ("MLP 784-16-16-10", "fashion-5k:train=1000", "mlp:widths=16x16,activation=relu,bias=false", 15, 128),
    ("MLP 784-200-200-10", "fashion-5k:train=1000", "mlp:widths=200x200", 5, 128),
)


def measured(rounds: int, steps: int) -> list[str]:
    """(s) The table, one row for each kind of network."""
    lines = ["| networks | how many | mini-batch | faster than one by one |", "|---|---|---|---|"]
    loss_fn = supervised(LOSSES.build("cross-entropy"))
    for name, source, spec, count, batch in NETWORKS:
        data = DATA.build(source).load()
        samples = (data.inputs, data.targets)
        models = [MODELS.build(spec).build(data.input_shape, data.classes, seed) for seed in range(count)]
        stack = Stack(models, loss_fn, samples, [Member(0.05, seed) for seed in range(count)], batch)
        gradients = FromBatches(models[0], loss_fn, samples, batch, 0)
        optimizer = torch.optim.SGD(models[0].parameters(), 0.05)
        for _ in range(-(-len(data.inputs) // batch)):  # an epoch, in which it is traced
            stack.step()
        ratios = []
        for _ in range(rounds):
            start = time.perf_counter()
            for _ in range(steps):
                stack.step()
            together = time.perf_counter() - start
            start = time.perf_counter()
            for step in range(steps):
                gradients.compute(step)
                optimizer.step()
            ratios.append(count * (time.perf_counter() - start) / together)
        lines.append(f"| {name} | {count} | {batch} | {statistics.median(ratios):.1f} |")
    return lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="few steps, nothing written")
    given = options.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    keep_freed_memory()
    table = measured(1 if given.quick else 5, 50 if given.quick else 400)
    lines = ["## (s) Training small networks together", "", *table]
    print("\n".join(lines))
    if not given.quick:
        write("s", lines)


if __name__ == "__main__":
    main()
