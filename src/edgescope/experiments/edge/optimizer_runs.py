"""The runs of the study `edge` with optimizers as they are used in practice: NAdam, Lion, pairs, SAM, clipping."""

from __future__ import annotations

from dataclasses import dataclass

from edgescope.experiments.preset import Preset
from edgescope.sweep import TrainTask
from edgescope.training import RunConfig


@dataclass(frozen=True)
class OptimizerRun:
    """One run: which optimizer, how long, and the cost of a step in any unit."""

    name: str
    method: str
    optimizer: str
    lr: float
    steps: int
    cost: float
    clip: float | None = None


@dataclass(frozen=True)
class OptimizerSettings:
    """What differs between the presets: data, network, steps between readings, and the runs."""

    data: str
    model: str
    every: int
    runs: tuple[OptimizerRun, ...]


POLYAK, SAM = "sgd:momentum=0.9", "sam:rho=0.05"

# Learning rates at which the headroom of each optimizer came down to 1 in trial runs.
QUICK = OptimizerSettings(
    data="fashion-5k:train=200,test=100,pool=4",
    model="mlp:widths=32x32,activation=tanh",
    every=10,
    runs=(
        OptimizerRun("NAdam", "nadam", "nadam", 1e-3, 800, 0.3),
        OptimizerRun("Lion", "lion", "lion", 1e-3, 800, 0.2),
        OptimizerRun("Muon-AdamW", "muon+adamw", "muon+adamw:lr=0.003", 1e-2, 700, 0.4),
        OptimizerRun("Polyak-AdamW", "polyak+adamw", f"{POLYAK}+adamw:lr=0.03", 0.05, 1300, 0.3),
        OptimizerRun("SAM", "sam", SAM, 0.15, 900, 0.3),
        OptimizerRun("Clipped-GD", "clipped", "sgd", 0.5, 800, 0.2, clip=0.05),
    ),
)

FULL = OptimizerSettings(
    data="fashion-5k:train=1000,test=1000,pool=2",
    model="mlp:widths=100x100,activation=tanh",
    every=10,
    runs=(
        OptimizerRun("NAdam-0.001", "nadam", "nadam", 1e-3, 1500, 1.0),
        OptimizerRun("NAdam-0.0005", "nadam", "nadam", 5e-4, 2000, 1.0),
        OptimizerRun("Lion-0.001", "lion", "lion", 1e-3, 1500, 0.8),
        OptimizerRun("Lion-0.0005", "lion", "lion", 5e-4, 2500, 0.8),
        OptimizerRun("Muon-AdamW-0.02", "muon+adamw", "muon+adamw:lr=0.003", 2e-2, 1500, 1.6),
        OptimizerRun("Muon-AdamW-0.01", "muon+adamw", "muon+adamw:lr=0.003", 1e-2, 1500, 1.6),
        OptimizerRun("Polyak-AdamW-0.05", "polyak+adamw", f"{POLYAK}+adamw:lr=0.03", 0.05, 2500, 1.4),
        OptimizerRun("Polyak-AdamW-0.1", "polyak+adamw", f"{POLYAK}+adamw:lr=0.01", 0.1, 2000, 1.4),
        OptimizerRun("SAM-0.15", "sam", SAM, 0.15, 1500, 1.3),
        OptimizerRun("SAM-0.1", "sam", SAM, 0.1, 2000, 1.3),
        OptimizerRun("Clipped-GD-0.5", "clipped", "sgd", 0.5, 1500, 0.8, clip=0.05),
        OptimizerRun("Clipped-GD-0.3", "clipped", "sgd", 0.3, 1500, 0.8, clip=0.1),
    ),
)

PAPER = OptimizerSettings(
    data="cifar10-5k",
    model="mlp:widths=200x200,activation=tanh",
    every=50,
    runs=(
        OptimizerRun("NAdam", "nadam", "nadam", 2e-4, 6000, 1.2),
        OptimizerRun("Lion", "lion", "lion", 2e-4, 6000, 1.0),
        OptimizerRun("Muon-AdamW", "muon+adamw", "muon+adamw:lr=0.001", 1e-2, 6000, 1.6),
        OptimizerRun("Polyak-AdamW", "polyak+adamw", f"{POLYAK}+adamw:lr=0.003", 0.005, 6000, 1.4),
        OptimizerRun("SAM", "sam", SAM, 0.02, 6000, 2.0),
        OptimizerRun("Clipped-GD", "clipped", "sgd", 0.05, 6000, 1.0, clip=0.05),
    ),
)

OPTIMIZER_SETTINGS: dict[Preset, OptimizerSettings] = {"quick": QUICK, "full": FULL, "paper": PAPER}

UNKNOWN = (
    "NAdam, Lion, pairs of optimizers and clipped gradient descent have no runs in the papers: they have the fully "
    "connected network and the data of Cohen et al. 2021, and learning rates of ours. So has SAM: the networks of Long "
    "and Bartlett 2023 (arXiv 2309.12488) are not repeated.",
)

MEASURES = ("training_loss@1", "loss", "gradient_norm", "time")
THRESHOLD = ("effective_sharpness", "threshold", "ratio")

UNRATED = ("lion", "sam")
"""Methods without the measure of a ratio: Lion has no threshold, and that of SAM is compared with the sharpness."""

PLAIN = ("lion", "sam", "clipped")
"""Methods whose sharpness itself is read as often as the rest; that of the others is read less often."""


def optimizer_tasks(preset: Preset, seed: int) -> list[TrainTask]:
    """One training run for each optimizer of the preset."""
    setting = OPTIMIZER_SETTINGS[preset]
    return [_task(setting, run, seed) for run in setting.runs]


def _task(setting: OptimizerSettings, run: OptimizerRun, seed: int) -> TrainTask:
    every = setting.every
    measures: tuple[str, ...] = (*MEASURES, f"headroom:on=objective@{every // 2}")
    measures += ("sharpness",) if run.method in PLAIN else (f"sharpness@{5 * every}",)
    if run.method not in UNRATED:  # a pair has three ratios to track
        measures += tuple(f"{name}@{2 * every}" for name in THRESHOLD) if "+" in run.method else THRESHOLD
    config = RunConfig(
        data=setting.data,
        model=setting.model,
        optimizer=run.optimizer,
        lr=run.lr,
        clip=run.clip,
        steps=run.steps,
        every=setting.every,
        measures=measures,
        seed=seed,
        checkpoint_every=max(200, run.steps // 4),
        threads=1,
    )
    tags = {"method": run.method, "network": "MLP", "lr": f"{run.lr:g}", "seed": str(seed)}
    return TrainTask(run.name, config, run.cost * run.steps, tags=tags)
