"""How often a warning comes before a spike of the training loss, how early, and how often in vain.

Adam at a learning rate of 0.02 with beta2 = 0.999 fits sin x + sin kx with a tanh network 1-40-1 on the full batch of
64 points in float64: a task is a frequency k and a seed. On every other task norms of steps and curvatures are measured
at every step, and the cut-offs are chosen from a grid by the mean of recall and precision; the tasks between are then
watched by a monitor with these cut-offs, and with the usual ones. The table goes to ``docs/benchmarks.md``; ``--quick``
takes few steps, to see that it runs.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from curvature import write
from torch import Tensor, nn

import edgescope as es
from edgescope.losses import half_mse
from edgescope.measures.gradient_curvature import gradient_curvature
from edgescope.measures.step_norms import ENOUGH, StepNorms
from edgescope.monitor import Monitor, SpikeEvent, SpikeOptions
from edgescope.optim import rule_for

FREQUENCIES = (3, 4, 5)
AHEAD = 100
"""Steps before a spike within which a warning counts as its own, and after a warning within which a spike does."""

NORMS = (1.25, 1.5, 2.0, 2.5, 3.0)
CURVATURES = (0.0, 0.5, 0.8, 1.0, 1.2, 1.5)
RISES = (1.2, 3.0)


@dataclass(frozen=True)
class Task:
    """A function to fit, and the initialization."""

    frequency: int
    seed: int

    @property
    def data(self) -> tuple[Tensor, Tensor]:
        x = torch.linspace(-math.pi, math.pi, 64, dtype=torch.float64)[:, None]
        return x, torch.sin(x) + torch.sin(self.frequency * x)

    def made(self) -> tuple[es.Objective, torch.optim.Optimizer]:
        torch.manual_seed(self.seed)
        model = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 1)).double()
        objective = es.Objective(model, es.supervised(half_mse), self.data, path="kept", threads=1)
        return objective, torch.optim.Adam(model.parameters(), lr=0.02, betas=(0.9, 0.999))


@dataclass(frozen=True)
class Series:
    """Of one run: the norm of each step over the median of those before, the curvature after it, the loss before it."""

    norms: list[float]
    curvatures: list[float]
    losses: list[float]


@dataclass(frozen=True)
class Score:
    """Warnings and spikes of several runs."""

    spikes: int
    large: int
    seen: int
    large_seen: int
    leads: tuple[int, ...]
    warnings: int
    in_vain: int
    products: float = math.nan

    @property
    def merit(self) -> float:
        """The mean of recall and precision."""
        recall = self.seen / self.spikes if self.spikes else 0.0
        precision = 1 - self.in_vain / self.warnings if self.warnings else 0.0
        return (recall + precision) / 2

    def row(self, name: str) -> str:
        lead = f"{statistics.median(self.leads):.0f}" if self.leads else "none"
        products = "" if math.isnan(self.products) else f"{self.products:.2f}"
        return (
            f"| {name} | {self.seen} of {self.spikes} | {self.large_seen} of {self.large} | {lead}"
            f" | {self.in_vain} of {self.warnings} | {products} |"
        )


def steps_of(task: Task, objective: es.Objective, optimizer: torch.optim.Optimizer, steps: int) -> Iterator[float]:
    """The loss that each step was taken on, after the step."""
    model, batch = objective.model, task.data
    for _ in range(steps):
        optimizer.zero_grad()
        loss = objective.loss_fn(model, batch)
        loss.backward()
        optimizer.step()
        yield float(loss.detach())


Run = tuple[list[int], list[float], int]
"""Steps of warnings, losses, and the number of products."""


def measured(task: Task, steps: int) -> Series:
    """Everything at every step."""
    found, norms = Series([], [], []), StepNorms(100, lambda layout: {})
    objective, optimizer = task.made()
    rule = rule_for(optimizer, objective.tensors)
    for loss in steps_of(task, objective, optimizer, steps):
        norms.follow(objective)
        found.losses.append(loss)
        found.norms.append(norms.over_median() or 0.0)
        found.curvatures.append(gradient_curvature(objective, rule, norms.step))
        objective.release()
    return found


def warnings_of(series: Series, norm: float, curvature: float) -> list[int]:
    """The steps of warnings with these cut-offs, as a monitor gives them, but for its waiting between products."""
    found, warned, short = [], False, 0
    for step, (length, along) in enumerate(zip(series.norms, series.curvatures, strict=True), start=1):
        short = 0 if length > norm else short + 1
        warned = warned and short < ENOUGH
        if length > norm and along > curvature and not warned:
            warned = True
            found.append(step)
    return found


def spikes_of(losses: Sequence[float], rise: float) -> list[int]:
    """The steps whose losses are above ``rise`` times the median of the 20 before, and above all of them; the first of
    those in a row, as a monitor gives them."""
    found, rising = [], False
    for step in range(ENOUGH, len(losses)):
        before = losses[max(0, step - 20) : step]
        high = losses[step] > rise * statistics.median(before)
        above = high and losses[step] > max(before)
        if above and not rising:
            found.append(step + 1)
        rising = high and (above or rising)
    return found


def score(runs: Iterable[tuple[list[int], list[float]]], products: float = math.nan) -> Score:
    """Of pairs of the steps of warnings, and losses."""
    counts, leads = [0] * 6, []
    for warned, losses in runs:
        spikes, large = (spikes_of(losses, rise) for rise in RISES)
        for spike in spikes:
            own = [step for step in warned if spike - AHEAD <= step <= spike]
            counts[0] += 1
            counts[2] += bool(own)
            leads += [spike - own[0]] if own else []
        counts[1] += len(large)
        counts[3] += sum(any(spike - AHEAD <= step <= spike for step in warned) for spike in large)
        counts[4] += len(warned)
        counts[5] += sum(not any(step <= spike <= step + AHEAD for spike in spikes) for step in warned)
    return Score(counts[0], counts[1], counts[2], counts[3], tuple(leads), counts[4], counts[5], products)


def watched(task: Task, steps: int, options: SpikeOptions) -> Run:
    """The warnings of a monitor that is given the losses, these, and its products."""
    objective, optimizer = task.made()
    warned: list[SpikeEvent] = []
    losses = []
    monitor = Monitor(objective, optimizer, every=10**9, measures=["time"], spikes=options)
    monitor.on("warning", warned.append)
    for loss in steps_of(task, objective, optimizer, steps):
        losses.append(loss)
        monitor.step(loss=loss)
    monitor.close()
    return [event.step for event in warned], losses, objective.spent.products


def reported(runs: Sequence[Run]) -> Score:
    products = sum(run[2] for run in runs) / sum(len(run[1]) for run in runs)
    return score([run[:2] for run in runs], 1000 * products)


def at_random(runs: Sequence[Run], draws: int = 200) -> str:
    """The row of as many warnings in each run at random steps, as means over draws: where spikes are frequent many
    have a warning, and many warnings a spike, by chance."""
    draw = np.random.default_rng(0)
    found = [
        score([(sorted(draw.integers(1, len(losses) + 1, len(own)).tolist()), losses) for own, losses, _ in runs])
        for _ in range(draws)
    ]
    seen, large, vain = (
        statistics.mean(getattr(one, name) for one in found) for name in ("seen", "large_seen", "in_vain")
    )
    leads = [lead for one in found for lead in one.leads]
    lead = f"{statistics.median(leads):.0f}" if leads else "none"
    one = found[0]
    return (
        f"| fresh: as many warnings at random steps | {seen:.1f} of {one.spikes} | {large:.1f} of {one.large}"
        f" | {lead} | {vain:.1f} of {one.warnings} | |"
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="few steps, nothing written")
    arguments.add_argument("--seeds", type=int, default=4, help="seeds of each frequency")
    arguments.add_argument("--steps", type=int, default=3000)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    steps, seeds = (400, 1) if given.quick else (given.steps, given.seeds)
    tasks = [Task(frequency, seed) for seed in range(seeds) for frequency in FREQUENCIES]
    chosen_on, fresh = tasks[::2], tasks[1::2]
    series = [measured(task, steps) for task in chosen_on]
    grid = {
        pair: score([(warnings_of(one, *pair), one.losses) for one in series])
        for pair in itertools.product(NORMS, CURVATURES)
    }
    norm, curvature = max(grid, key=lambda pair: grid[pair].merit)
    usual = SpikeOptions()
    best = SpikeOptions(norm=norm, curvature=max(curvature, 1e-6))
    alone = SpikeOptions(norm=norm, curvature=1e-6)
    watching = {
        name: [watched(task, steps, each) for task in fresh]
        for name, each in (("best", best), ("usual", usual), ("alone", alone))
    }
    rows = [
        grid[norm, curvature].row(f"chosen on: {norm:g}, {curvature:g}"),
        grid[usual.norm, usual.curvature].row(f"chosen on: {usual.norm:g}, {usual.curvature:g} (usual)"),
        reported(watching["best"]).row(f"fresh: {norm:g}, {curvature:g}"),
        reported(watching["usual"]).row(f"fresh: {usual.norm:g}, {usual.curvature:g} (usual)"),
        reported(watching["alone"]).row(f"fresh: {norm:g} of the norm alone"),
        at_random(watching["usual"]),
    ]
    lines = [
        "## (w) Warnings before spikes of the loss",
        "",
        *textwrap.wrap(
            f"Tanh networks 1-40-1 on sin x + sin kx with k of {', '.join(map(str, FREQUENCIES))}, Adam, learning rate"
            f" 0.02, beta2 0.999, {steps:,} steps, full batch. Cut-offs were chosen on {len(chosen_on)} tasks (a k and"
            f" a seed), from {len(grid)} pairs; the {len(fresh)} fresh tasks have other seeds for each k. A spike is a"
            f" loss above {RISES[0]:g} times the median of the 20 before. A warning is its own if it came at most"
            f" {AHEAD} steps before, and in vain if no spike came within as many steps after it.",
            width=120,
        ),
        "",
        f"| tasks; cut-offs of norm and curvature | spikes with a warning | of those above {RISES[1]:g} times"
        " | median lead, steps | warnings in vain | products in 1,000 steps |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    print("\n".join(lines))
    for pair, found in grid.items():
        print(pair, f"{found.merit:.3f}", found.row(""))
    if not given.quick:
        write("w", lines, "float64")


if __name__ == "__main__":
    main()
