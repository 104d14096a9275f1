"""What the study `grokking` runs in each preset."""

from __future__ import annotations

from dataclasses import dataclass

from edgescope.experiments.phases.decay_problems import grokking_problems
from edgescope.experiments.phases.decay_trials import DecayTrialsTask
from edgescope.experiments.preset import Preset
from edgescope.sweep import Task, TrainTask
from edgescope.training import RunConfig


@dataclass(frozen=True)
class GrokkingSettings:
    """Networks that learn addition modulo ``modulus``: rate and decay of each run, steps, and how often measured.

    ``coefficient``: whether the learning coefficient is measured too, for some 4,000 gradients at each checkpoint.
    """

    modulus: int
    steps: int
    checkpoints: int
    runs: tuple[tuple[float, float], ...]  # learning rate, weight decay
    estimate: str
    cost: float
    seeds: int = 1
    coefficient: bool = False


QUICK = (
    GrokkingSettings(
        modulus=31,
        steps=8000,
        checkpoints=40,
        runs=((1.0, 3e-4), (1.0, 1e-4), (0.3, 3e-4)),
        estimate="methods=slq,probes=2,steps=60",
        cost=1.0,
    ),
)

FULL = (
    GrokkingSettings(
        modulus=31,
        steps=16000,
        checkpoints=60,
        runs=((1.0, 3e-4), (1.0, 1e-4), (0.3, 3e-4)),
        estimate="methods=slq,probes=2,steps=100",
        cost=2.0,
        seeds=2,
        coefficient=True,
    ),
    GrokkingSettings(
        modulus=47,
        steps=12000,
        checkpoints=60,
        runs=((1.0, 1e-4), (1.0, 3e-4)),
        estimate="methods=slq,probes=2,steps=100",
        cost=4.0,
        coefficient=True,
    ),
)

PAPER = (
    GrokkingSettings(
        modulus=97,
        steps=40_000,
        checkpoints=80,
        runs=((1.0, 3e-4), (1.0, 1e-4), (0.3, 3e-4), (0.3, 1e-4)),
        estimate="methods=slq,probes=4,steps=200",
        cost=60.0,
        seeds=3,
        coefficient=True,
    ),
)

MOMENTUM = 0.9

SETTINGS: dict[Preset, tuple[GrokkingSettings, ...]] = {"quick": QUICK, "full": FULL, "paper": PAPER}

MEASURES = (
    "loss",
    "accuracy",
    "norms",
    "gradient_norm",
    "sharpness",
    "hessian_trace:num_matvecs=12",
    "rds_sharpness",
)

COEFFICIENT = "learning_coefficient:gamma=10,chains=4,times=6"
"""Curvatures above gamma/(n β), some 0.15, count; flat directions forget where they began in some 130 steps."""


def grokking_tasks(preset: Preset, seed: int) -> list[Task]:
    """One run for each modulus, learning rate, weight decay and seed; in preset full also the trials of schedules."""
    tasks: list[Task] = []
    for setting in SETTINGS[preset]:
        every = setting.steps // setting.checkpoints
        for lr, decay in setting.runs:
            for number in range(setting.seeds):
                config = RunConfig(
                    data=f"modular-addition:modulus={setting.modulus}",
                    model="mlp:widths=32,activation=gelu",
                    loss="mse",
                    optimizer=f"sgd:momentum={MOMENTUM:g},weight_decay={decay:g}",
                    lr=lr,
                    steps=setting.steps,
                    every=every,
                    measures=(
                        *MEASURES,
                        f"sharpness_dimension:{setting.estimate}",
                        f"persistent_homology:iterates={every // 2},stride=1@{every}",
                        f"spectrum:probes=2,steps=60@{setting.steps // 8}",
                        *((COEFFICIENT,) if setting.coefficient else ()),
                    ),
                    seed=seed + number,
                    checkpoint_every=setting.steps // 4,
                    threads=1,
                    path="kept",
                )
                name = f"p{setting.modulus}-lr{lr:g}-decay{decay:g}" + (f"-seed{seed + number}" if number else "")
                tags = {"role": "training", "modulus": str(setting.modulus), "lr": f"{lr:g}", "decay": f"{decay:g}"}
                tasks.append(TrainTask(name, config, setting.cost, tags=tags | {"seed": str(seed + number)}))
    if preset == "full":
        tags = {"role": "decay trials", "kind": "decay trials"}
        tasks.append(DecayTrialsTask("decay-trials", 10, seed, grokking_problems(), 5, tags=tags))
    return tasks
