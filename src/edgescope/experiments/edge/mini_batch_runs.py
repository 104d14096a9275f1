"""The runs of the study `edge` on mini-batches, and those whose blocks and spikes are shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from edgescope.experiments.edge.small_problems import SAMPLES
from edgescope.experiments.preset import Preset
from edgescope.sweep import TrainTask
from edgescope.training import RunConfig

FULL_BATCH: Final = "full"
"""The tag of runs on all data, which are beside those on mini-batches."""

PROBLEMS: Final = "edgescope.experiments.edge.small_problems"


@dataclass(frozen=True)
class SmallProblem:
    """Data and network: a function of ``small_problems``, or data and model by name; labels as they are, or random.

    ``samples`` are those of the training data, ``cost`` is that of a step in the unit of the runs on all data.
    """

    network: str
    labels: str
    samples: int
    options: dict[str, str] = field(hash=False)
    cost: float = 0.1


DIGITS = SmallProblem("digits", "random", SAMPLES, {"function": f"{PROBLEMS}:random_digits"})
TRUE_DIGITS = SmallProblem("digits", "true", SAMPLES, {"function": f"{PROBLEMS}:true_digits"})
LINEAR = SmallProblem("linear", "random", SAMPLES, {"function": f"{PROBLEMS}:linear_random_digits"})
SINES = SmallProblem("sines", "true", 64, {"function": f"{PROBLEMS}:sines"})
FASHION = SmallProblem(
    "fashion",
    "true",
    1024,
    {"data": "fashion-5k:train=1024,test=1000,pool=2", "model": "mlp:widths=100x100,activation=tanh"},
    cost=0.4,
)
CIFAR = SmallProblem(
    "cifar10", "true", 5000, {"data": "cifar10-5k", "model": "mlp:widths=200x200,activation=tanh"}, cost=6.0
)


@dataclass(frozen=True)
class BatchRun:
    """One run of SGD: ``batch`` None is all data. ``role`` says which claims are tested on it."""

    role: str
    problem: SmallProblem
    lr: float
    batch: int | None
    steps: int
    momentum: float = 0.0
    seed: int = 0
    optimizer: str = "sgd"

    @property
    def size(self) -> str:
        """The batch size as a tag."""
        return FULL_BATCH if self.batch is None else str(self.batch)

    @property
    def name(self) -> str:
        """Different for all runs of a preset."""
        parts = [self.role, self.problem.network, "" if self.problem.labels == "random" else self.problem.labels]
        parts += [f"{self.lr:g}", f"m{self.momentum:g}" if self.momentum else "", f"b{self.size}"]
        parts += ["" if self.optimizer == "sgd" else self.optimizer.partition(":")[0]]
        return "-".join([*filter(None, parts), *([f"s{self.seed}"] if self.seed else [])])


SETTLING, MOMENTUM, HEADROOM, SPIKE = "settling", "momentum", "headroom", "spike"
"""Roles: plain SGD that settles; SGD with momentum; steps whose headroom is measured; Adam with spikes."""

SPIKING = BatchRun(SPIKE, SINES, 0.02, None, 1000, optimizer="adam")

READINGS: Final = 80
"""Readings of a run, half of which are in the half of it that counts."""


def _sizes(problem: SmallProblem, lr: float, steps: dict[int | None, int], seed: int = 0) -> list[BatchRun]:
    return [BatchRun(SETTLING, problem, lr, batch, count, seed=seed) for batch, count in steps.items()]


# The lengths are those that the runs of the implementers' notes had (6,000 to 8,000 steps at η = 0.2, 24,000 with 4
# samples), longer at smaller rates; with true labels η is one at which gradient descent arrives at 2/η.
RUNS: Final[dict[Preset, list[BatchRun]]] = {
    "quick": [
        *_sizes(DIGITS, 0.2, {8: 8000, 16: 8000, None: 4000}),
        BatchRun(MOMENTUM, DIGITS, 0.3, 32, 3000, momentum=0.9),
        BatchRun(HEADROOM, LINEAR, 0.02, 8, 1500),
        SPIKING,
    ],
    "full": [
        *(
            run
            for seed in range(2)
            for run in _sizes(DIGITS, 0.2, {4: 24_000, 8: 12_000, 16: 12_000, None: 6000}, seed)
        ),
        *_sizes(DIGITS, 0.1, {8: 24_000, 16: 16_000, None: 8000}),
        *_sizes(TRUE_DIGITS, 0.2, {8: 12_000, None: 6000}),
        *_sizes(TRUE_DIGITS, 0.8, {8: 12_000, 16: 12_000, None: 6000}),
        *_sizes(FASHION, 0.15, {16: 12_000, 64: 8000, None: 3000}),
        *(BatchRun(MOMENTUM, DIGITS, 0.02, batch, 12_000, momentum=0.9) for batch in (4, 8)),
        *(BatchRun(MOMENTUM, DIGITS, 0.3, batch, 6000, momentum=0.9) for batch in (32, None)),
        *(BatchRun(HEADROOM, LINEAR, lr, 8, 3000) for lr in (0.02, 0.06)),
        BatchRun(HEADROOM, LINEAR, 0.02, 8, 3000, seed=1),
        BatchRun(HEADROOM, DIGITS, 0.005, 8, 12_000, optimizer="adam"),
        SPIKING,
    ],
    "paper": [
        *_sizes(CIFAR, 0.02, {8: 60_000, 40: 60_000, 200: 40_000, None: 12_000}),
        *(BatchRun(MOMENTUM, CIFAR, 0.005, batch, 60_000, momentum=0.9) for batch in (8, 40, 1000)),
        *_sizes(DIGITS, 0.2, {4: 24_000, 8: 12_000, 16: 12_000, None: 6000}),
        *(BatchRun(HEADROOM, LINEAR, lr, 8, 3000) for lr in (0.02, 0.06)),
        SPIKING,
    ],
}

UNKNOWN = (
    "Of the runs on mini-batches (Andreyev and Beneventano 2024): networks and data as above are among theirs; their "
    "learning rates, batch sizes and lengths are not known here.",
)


def mini_batch_tasks(preset: Preset, seed: int) -> list[TrainTask]:
    """One training run for each problem, learning rate and batch size of the preset."""
    return [_task(run, seed) for run in RUNS[preset]]


def _task(run: BatchRun, seed: int) -> TrainTask:
    own = run.seed + seed
    optimizer = f"{run.optimizer}:momentum={run.momentum}" if run.momentum else run.optimizer
    config = RunConfig(
        **run.problem.options,  # type: ignore[arg-type]
        optimizer=optimizer,
        lr=run.lr,
        steps=run.steps,
        batch=run.batch,
        every=max(1, run.steps // READINGS),
        measures=_measures(run),
        seed=own,
        checkpoint_every=max(500, run.steps // 4),
        spikes=run.role == SPIKE,
        threads=1,
        path="kept",
    )
    tags = {
        "optimizer": run.optimizer,
        "role": run.role,
        "network": run.problem.network,
        "labels": run.problem.labels,
        "lr": f"{run.lr:g}",
        "momentum": f"{run.momentum:g}",
        "batch": run.size,
        "samples": str(run.problem.samples),
        "seed": str(own),
    }
    # A reading of the batch sharpness costs as much as some 60 steps.
    return TrainTask(run.name, config, run.problem.cost * (run.steps + 60 * READINGS), tags=tags)


def _measures(run: BatchRun) -> tuple[str, ...]:
    if run.role == SPIKE:
        return ("training_loss@1", "update_norm@1", "block_sharpness")
    if run.role == HEADROOM:
        every_step = ("training_loss@1", "update_norm@1", "directional_smoothness:geometry=euclidean@1")
        return (*every_step, "headroom:on=batch@5", "batch_sharpness:fresh=true")
    measures = ["training_loss", "sharpness", "ratio", "threshold"]
    if run.batch is None:
        return (*measures, "block_sharpness") if run.role == SETTLING else tuple(measures)
    return (*measures, "batch_sharpness:fresh=true", "headroom:on=batch")
