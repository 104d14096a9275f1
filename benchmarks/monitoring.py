"""What a monitor costs in a training run: tracking, budgets, the default measures, and commands without a run.

All times are those of the processor on one thread; a gradient is one of the same model on the same data, timed before
and after. The table goes to ``docs/benchmarks.md``. ``--quick`` takes few steps, to see that it runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from curvature import write
from problems import Problem, cnn, mlp, transformer

import edgescope as es
from edgescope.allocator import keep_freed_memory
from edgescope.errors import EdgescopeWarning

EVERY = 5
TARGETS = {"sharpening": 9, "edge": 15}
COMMANDS = {"list": (["list"], 1.5), "--help": (["--help"], None)}


def gradient_seconds(problem: Problem) -> float:
    parameters = list(problem.model.parameters())
    found = []
    for _ in range(9):
        start = time.process_time()
        torch.autograd.grad(problem.loss(), parameters)
        found.append(time.process_time() - start)
    return statistics.median(found[2:])


class Clock:
    """Processor time inside of ``counting()``, one entry a use."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    @contextmanager
    def counting(self) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds.append(time.process_time() - start)


def monitored(problem: Problem, lr: float, steps: int, **options: Any) -> tuple[es.Monitor, Clock, float]:
    """Full-batch descent under a monitor; the monitor, its times and those of a gradient."""
    optimizer = torch.optim.SGD(problem.model.parameters(), lr)
    one = gradient_seconds(problem)
    clock = Clock()
    with clock.counting():
        monitor = es.Monitor(problem.objective(threads=1), optimizer, **options)
    for _ in range(steps):
        optimizer.zero_grad()
        problem.loss().backward()
        optimizer.step()
        with clock.counting():
            monitor.step()
    with clock.counting():
        monitor.finish()
    return monitor, clock, statistics.median([one, gradient_seconds(problem)])


def tracking(quick: bool) -> list[str]:
    """Gradients a reading of the sharpness, k=1 every 5 steps, of the whole monitor, construction included."""
    lines = [
        "| network | phase | sharpness over threshold, last | gradients a reading | products a reading | target |",
        "|---|---|---|---|---|---|",
    ]
    cases: list[tuple[str, Callable[[], Problem], float, int]] = [
        ("sharpening", lambda: mlp(1000), 0.1, 10),
        ("edge", lambda: mlp(1000), 0.35, 600),
        ("sharpening", lambda: cnn(300), 0.1, 10),
        ("edge", lambda: cnn(300), 0.3, 600),
        ("sharpening", lambda: transformer(16, 32), 0.02, 10),
    ]
    for phase, make, lr, before in cases[: 1 if quick else None]:
        problem = make()
        problem.descend(lr, 5 if quick else before)
        monitor, clock, one = monitored(problem, lr, 20 if quick else 200, every=EVERY, measures=["sharpness"])
        readings = (20 if quick else 200) // EVERY + 1
        ratio = monitor.value("sharpness") * lr / 2
        products = monitor.objective.spent.products / readings
        cost = sum(clock.seconds) / one / readings
        lines.append(f"| {problem.name} | {phase} | {ratio:.2f} | {cost:.1f} | {products:.1f} | {TARGETS[phase]} |")
    return lines


def budgets(quick: bool) -> list[str]:
    """The share of the time that a monitor with ``budget=0.1`` takes, its construction and first reading included."""
    lines = [
        "| network | steps | share of the time | readings | target |",
        "|---|---|---|---|---|",
    ]
    for make in (lambda: cnn(100), lambda: transformer(8, 32))[: 1 if quick else None]:
        problem = make()
        steps = 30 if quick else 900
        monitor, clock, one = monitored(problem, 0.05, steps, budget=0.1, measures=["sharpness", "loss"])
        spent = sum(clock.seconds)
        table = monitor.table()
        readings = len(set(table["step"].to_list())) if len(table) else 0
        lines.append(f"| {problem.name} | {steps} | {spent / (spent + steps * one):.3f} | {readings} | 0.10 to 0.12 |")
    return lines


def defaults(quick: bool) -> list[str]:
    """What directional smoothness adds to a reading of the sharpness: one gradient, not products."""
    problem = mlp(1000)
    steps = 20 if quick else 100
    found = {}
    for measures in (["sharpness"], ["sharpness", "directional_smoothness"], ["directional_smoothness"]):
        problem = mlp(1000)
        problem.descend(0.1, 10)
        _, clock, one = monitored(problem, 0.1, steps, every=EVERY, measures=measures)
        found[" and ".join(measures).replace("_", " ")] = sum(clock.seconds) / one / (steps // EVERY + 1)
    return ["| measures | gradients a reading |", "|---|---|", *(f"| {n} | {v:.1f} |" for n, v in found.items())]


def commands(quick: bool) -> list[str]:
    """Processor seconds of commands that measure nothing."""
    lines = ["| command | processor seconds | target |", "|---|---|---|"]
    for name, (arguments, target) in COMMANDS.items():
        found = []
        for _ in range(1 if quick else 5):
            before = os.times()
            subprocess.run([sys.executable, "-m", "edgescope", *arguments], capture_output=True, check=True)
            after = os.times()
            found.append(after.children_user + after.children_system - before.children_user - before.children_system)
        lines.append(f"| edgescope {name} | {statistics.median(found):.1f} | {target or ''} |")
    return lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="few steps, nothing written")
    tables = {each.__name__: each for each in (tracking, budgets, defaults, commands)}
    options.add_argument(
        "--only", choices=tables, nargs="+", default=list(tables), help="tables; fewer are not written"
    )
    given = options.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    warnings.simplefilter("ignore", EdgescopeWarning)
    lines = ["## (tr) A monitor in a training run", ""]
    for section in map(tables.__getitem__, given.only):
        text = (section.__doc__ or "").replace("``", "`")
        found = [text, "", *section(given.quick), ""]
        print("\n".join(found), flush=True)
        lines += found
    if not given.quick and given.only == list(tables):
        write("tr", lines[:-1])


if __name__ == "__main__":
    main()
