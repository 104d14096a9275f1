"""What headroom and batch sharpness cost: passes, and gradients of all data, beside a reading of the sharpness.

All times are those of the processor on one thread; a gradient is one of the same model on all its data, timed before
and after. The table goes to ``docs/benchmarks.md``. ``--quick`` takes few steps, to see that it runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from curvature import write
from monitoring import gradient_seconds
from problems import Problem, cnn, mlp, transformer
from torch.nn.attention import SDPBackend, sdpa_kernel

import edgescope as es
from edgescope.allocator import keep_freed_memory
from edgescope.errors import EdgescopeWarning

EVERY = 5
SIZE, BATCHES = 32, 30
CASES: tuple[tuple[Callable[[], Problem], float, int], ...] = (
    (lambda: mlp(1000), 0.35, 200),
    (lambda: cnn(300), 0.3, 200),
    (lambda: transformer(64, 32), 0.1, 40),
)


def reading_cost(problem: Problem, lr: float, steps: int, measure: str) -> tuple[float, float]:
    """Gradients that a reading takes, by the clock, and passes over all data that it counts; medians over the run."""
    optimizer = torch.optim.SGD(problem.model.parameters(), lr)
    monitor = es.Monitor(problem.objective(threads=1), optimizer, every=EVERY, measures=[measure])
    one, seconds, passes = gradient_seconds(problem), [], []
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        problem.loss().backward()
        optimizer.step()
        start = time.process_time()
        monitor.step()
        if step % EVERY == 0:
            seconds.append(time.process_time() - start)
            cost = monitor.latest[measure].cost
            passes.append(float(cost.losses + cost.gradients))
    monitor.finish()
    one = statistics.median([one, gradient_seconds(problem)])
    return statistics.median(seconds) / one, statistics.fmean(passes)


def plain_batch_sharpness(problem: Problem, batches: list[torch.Tensor]) -> float:
    """The same mean as published code takes it: a gradient with its graph and a product for each mini-batch."""
    parameters, found = list(problem.model.parameters()), []
    for chosen in batches:
        loss = problem.criterion(problem.model(problem.inputs[chosen]), problem.targets[chosen])  # type: ignore[operator]
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        fixed = [gradient.detach() for gradient in gradients]
        inner = sum((g * f).sum() for g, f in zip(gradients, fixed, strict=True))
        products = torch.autograd.grad(inner, parameters)
        above = sum(float((p * f).sum()) for p, f in zip(products, fixed, strict=True))
        found.append(above / sum(float(f.square().sum()) for f in fixed))
    return statistics.fmean(found)


def table(quick: bool) -> list[str]:
    """(h) Headroom and batch sharpness, in gradients of all data."""
    lines = [
        "| network | headroom: passes a reading | gradients a reading | sharpness: gradients a reading |"
        f" batch sharpness of {BATCHES} mini-batches of {SIZE}: gradients |"
        " by plain double backward | passes, target |",
        "|---|---|---|---|---|---|---|",
    ]
    for make, lr, before in CASES[: 1 if quick else None]:
        problem, steps = make(), 20 if quick else 100
        problem.descend(lr, 5 if quick else before)
        headroom, passes = reading_cost(problem, lr, steps, "headroom")
        sharpness, _ = reading_cost(problem, lr, steps, "sharpness")
        objective, one = problem.objective(threads=1), gradient_seconds(problem)
        generator = torch.Generator().manual_seed(0)
        batches = [torch.randperm(len(problem.inputs), generator=generator)[:SIZE] for _ in range(BATCHES)]
        ours, theirs = [], []
        for number in range(4):
            start = time.process_time()
            es.batch_sharpness(objective, SIZE, count=BATCHES, seed=number)
            middle = time.process_time()
            with sdpa_kernel(SDPBackend.MATH):  # the only kernel of attention with second derivatives
                plain_batch_sharpness(problem, batches)
            end = time.process_time()
            ours.append(middle - start)
            theirs.append(end - middle)
        one = statistics.median([one, gradient_seconds(problem)])
        each = [statistics.median(taken[1:]) / one for taken in (ours, theirs)]
        lines.append(
            f"| {problem.name} | {passes:.1f} | {headroom:.1f} | {sharpness:.1f} | {each[0]:.1f} | {each[1]:.1f}"
            " | 2.3 to 3.5 |"
        )
    return lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="few steps, nothing written")
    given = options.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    warnings.simplefilter("ignore", EdgescopeWarning)
    lines = ["## (h) Headroom and batch sharpness: what a reading costs", "", *table(given.quick)]
    print("\n".join(lines))
    if not given.quick:
        write("h", lines)


if __name__ == "__main__":
    main()
