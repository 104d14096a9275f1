"""The runs of the study `edge`."""

from __future__ import annotations

from dataclasses import dataclass

from edgescope.experiments.preset import Preset
from edgescope.sweep import TrainTask
from edgescope.training import RunConfig


@dataclass(frozen=True)
class RunSpec:
    """One run: which method on which network, and how long. ``cost`` is that of a step, in any unit."""

    name: str
    method: str
    optimizer: str
    lr: float
    steps: int
    cost: float
    network: str = "MLP"
    spectra: int = 0
    """how many whole spectra are taken after the first"""


@dataclass(frozen=True)
class EdgeSettings:
    """What differs between the presets: the data, the size of the networks, and the runs."""

    data: dict[str, str]
    models: dict[str, str]
    every: int
    runs: tuple[RunSpec, ...]
    stop_accuracy: float | None = None


POLYAK, NESTEROV = "sgd:momentum=0.9", "sgd:momentum=0.9,nesterov=true"
RMSPROP, ADAM = "rmsprop:alpha=0.99,eps=1e-7", "adam:eps=1e-7"
FLOW = "gradient-flow:safety=2"

# Long enough for the mean over time of most runs to have an interval narrower than the region of its claim.
QUICK = EdgeSettings(
    data={"MLP": "fashion-5k:train=1000,test=1000,pool=2", "CNN": "fashion-5k:train=300,test=500,pool=2"},
    models={"MLP": "mlp:widths=100x100,activation=tanh", "CNN": "cnn:channels=8x8,activation=tanh"},
    every=10,
    runs=(
        RunSpec("GD-0.15", "gd", "sgd", 0.15, 1000, 1.0),
        RunSpec("GD-0.10", "gd", "sgd", 0.10, 1100, 1.0),
        RunSpec("GD-0.07", "gd", "sgd", 0.07, 2200, 1.2, spectra=3),
        RunSpec("flow", "flow", FLOW, 0.07, 1100, 3.0),
        RunSpec("Polyak", "polyak", POLYAK, 0.1, 1200, 1.0),
        RunSpec("Nesterov", "nesterov", NESTEROV, 0.03, 1400, 1.0),
        RunSpec("RMSProp", "rmsprop", RMSPROP, 1e-4, 1200, 1.2),
        RunSpec("Adam", "adam", ADAM, 1e-3, 800, 1.2),
        RunSpec("CNN-GD-0.20", "gd", "sgd", 0.2, 800, 3.0, "CNN"),
        RunSpec("CNN-GD-0.15", "gd", "sgd", 0.15, 1100, 3.0, "CNN"),
    ),
)

FULL = EdgeSettings(
    data={"MLP": "fashion-5k", "CNN": "fashion-5k:train=2000,test=1000,pool=2"},
    models={"MLP": "mlp:widths=200x200,activation=tanh", "CNN": "cnn:channels=16x16,activation=tanh"},
    every=20,
    runs=(
        RunSpec("GD-0.06", "gd", "sgd", 0.06, 1200, 1.0),
        RunSpec("GD-0.05", "gd", "sgd", 0.05, 1600, 1.0),
        RunSpec("GD-0.04", "gd", "sgd", 0.04, 2200, 1.0, spectra=8),
        RunSpec("flow", "flow", FLOW, 0.04, 1700, 3.0),
        RunSpec("Polyak", "polyak", POLYAK, 0.05, 800, 1.0),
        RunSpec("Nesterov", "nesterov", NESTEROV, 0.02, 900, 1.0),
        RunSpec("RMSProp", "rmsprop", RMSPROP, 5e-5, 1000, 1.2),
        RunSpec("Adam", "adam", ADAM, 5e-4, 1000, 1.2),
        RunSpec("CNN-GD-0.20", "gd", "sgd", 0.2, 800, 3.0, "CNN"),
        RunSpec("CNN-GD-0.15", "gd", "sgd", 0.15, 1000, 3.0, "CNN"),
    ),
)

PAPER = EdgeSettings(
    data={"MLP": "cifar10-5k", "CNN": "cifar10-5k"},
    models={"MLP": "mlp:widths=200x200,activation=tanh", "CNN": "cnn:channels=32x32,activation=tanh"},
    every=50,
    runs=(
        RunSpec("GD-0.01", "gd", "sgd", 0.01, 12_000, 1.0, spectra=8),
        RunSpec("GD-0.02", "gd", "sgd", 0.02, 6000, 1.0),
        RunSpec("flow", "flow", FLOW, 0.01, 12_000, 4.0),
        RunSpec("Polyak", "polyak", POLYAK, 0.005, 6000, 1.0),
        RunSpec("Nesterov", "nesterov", NESTEROV, 0.005, 6000, 1.0),
        RunSpec("RMSProp", "rmsprop", RMSPROP, 2e-5, 6000, 1.2),
        RunSpec("Adam", "adam", ADAM, 2e-4, 6000, 1.2),
        RunSpec("CNN-GD-0.02", "gd", "sgd", 0.02, 6000, 8.0, "CNN"),
    ),
    stop_accuracy=0.99,
)

SETTINGS: dict[Preset, EdgeSettings] = {"quick": QUICK, "full": FULL, "paper": PAPER}

UNKNOWN = (
    "Known of the paper's own runs: the first 5,000 images of CIFAR-10, both networks, the half-squared loss, gradient "
    "descent at the learning rate 0.01 until 99% of the training images are learned (about 9,000 steps).",
    "Not known: the other learning rates of the fully connected network, and all of the convolutional one.",
    "Not known: the learning rates of Polyak and Nesterov momentum and of Adam; that of RMSProp, 2e-5, is from "
    "Cohen et al. 2024 (arXiv 2410.24206).",
)

MEASURES = (
    "training_loss@1",
    "gradient_norm",
    "effective_sharpness",
    "threshold",
    "ratio",
    "time",
    "norms@100",
)

ADAPTIVE = ("rmsprop", "adam")
"""Their threshold is one of the sharpness in their own metric; the plain one is measured less often."""


def edge_tasks(preset: Preset, seed: int) -> list[TrainTask]:
    """One training run for each optimizer and learning rate of the preset."""
    setting = SETTINGS[preset]
    return [_task(setting, spec, seed) for spec in setting.runs]


def _task(setting: EdgeSettings, spec: RunSpec, seed: int) -> TrainTask:
    convolutional = spec.network == "CNN"
    raw = "sharpness@50" if spec.method in ADAPTIVE else "sharpness:k=2" if convolutional else "sharpness"
    # No claim and no figure reads these, which take as long as two or three steps of training.
    often = setting.every if setting.stop_accuracy is not None else 5 * setting.every
    measures: tuple[str, ...] = (*MEASURES, raw, f"loss@{often}", f"accuracy@{often}")
    if spec.method == "gd":
        measures += (f"directional_smoothness:method=products@{2 * setting.every}",)
    if spec.spectra:
        measures += (f"spectrum@{spec.steps // spec.spectra}",)
    config = RunConfig(
        data=setting.data[spec.network],
        model=setting.models[spec.network],
        optimizer=spec.optimizer,
        lr=spec.lr,
        steps=spec.steps,
        every=10 if convolutional else setting.every,  # fewer and longer steps than the other
        measures=measures,
        seed=seed,
        checkpoint_every=max(200, spec.steps // 4),
        stop_accuracy=setting.stop_accuracy,
        threads=1,
    )
    tags = {"method": spec.method, "network": spec.network, "lr": f"{spec.lr:g}", "seed": str(seed)}
    return TrainTask(spec.name, config, spec.cost * spec.steps, tags=tags)
