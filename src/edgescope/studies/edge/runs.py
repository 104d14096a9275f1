"""The runs of the study `edge`, quick and full."""

from __future__ import annotations

from dataclasses import dataclass

from edgescope.studies.study import Preset, TrainTask
from edgescope.training import RunConfig


@dataclass(frozen=True)
class Setting:
    """What differs between the presets: the data, the size of the networks, and the length of the runs."""

    mlp_data: str
    cnn_data: str
    mlp: str
    cnn: str
    every: int
    portrayed: str
    """the run whose whole spectrum is drawn"""
    spectra: int
    """how many spectra after the first"""
    runs: tuple[tuple[str, str, float, int, float], ...]  # name, optimizer, rate, steps, cost of a step


QUICK = Setting(
    mlp_data="fashion-5k:train=1000,test=1000,pool=2",
    cnn_data="fashion-5k:train=300,test=500,pool=2",
    mlp="mlp:widths=100x100,activation=tanh",
    cnn="cnn:channels=8x8,activation=tanh",
    every=10,
    portrayed="GD-0.07",
    spectra=3,
    runs=(
        ("GD-0.15", "sgd", 0.15, 800, 1.0),
        ("GD-0.10", "sgd", 0.10, 900, 1.0),
        ("GD-0.07", "sgd", 0.07, 1600, 1.2),
        ("flow", "gradient-flow:safety=2", 0.07, 1100, 3.0),
        ("Polyak", "sgd:momentum=0.9", 0.1, 700, 1.0),
        ("Nesterov", "sgd:momentum=0.9,nesterov=true", 0.03, 900, 1.0),
        ("RMSProp", "rmsprop:alpha=0.99,eps=1e-7", 1e-4, 600, 1.2),
        ("Adam", "adam:eps=1e-7", 1e-3, 800, 1.2),
        ("CNN-GD-0.20", "sgd", 0.2, 500, 3.0),
        ("CNN-GD-0.15", "sgd", 0.15, 640, 3.0),
    ),
)

FULL = Setting(
    mlp_data="fashion-5k",
    cnn_data="fashion-5k:train=2000,test=1000,pool=2",
    mlp="mlp:widths=200x200,activation=tanh",
    cnn="cnn:channels=16x16,activation=tanh",
    every=20,
    portrayed="GD-0.04",
    spectra=8,
    runs=(
        ("GD-0.06", "sgd", 0.06, 1200, 1.0),
        ("GD-0.05", "sgd", 0.05, 1600, 1.0),
        ("GD-0.04", "sgd", 0.04, 2200, 1.0),
        ("flow", "gradient-flow:safety=2", 0.04, 1700, 3.0),
        ("Polyak", "sgd:momentum=0.9", 0.05, 800, 1.0),
        ("Nesterov", "sgd:momentum=0.9,nesterov=true", 0.02, 900, 1.0),
        ("RMSProp", "rmsprop:alpha=0.99,eps=1e-7", 5e-5, 1000, 1.2),
        ("Adam", "adam:eps=1e-7", 5e-4, 1000, 1.2),
        ("CNN-GD-0.20", "sgd", 0.2, 800, 3.0),
        ("CNN-GD-0.15", "sgd", 0.15, 1000, 3.0),
    ),
)

MEASURES = (
    "training_loss@1",
    "loss",
    "accuracy",
    "gradient_norm",
    "effective_sharpness",
    "threshold",
    "ratio",
    "time",
    "norms@100",
)

ADAPTIVE = ("RMSProp", "Adam")
"""Their threshold is one of the effective sharpness; the plain one is followed from afar."""


def edge_tasks(preset: Preset, seed: int) -> list[TrainTask]:
    """One training run for each optimizer and learning rate of the preset."""
    setting = {"quick": QUICK, "full": FULL}[preset]
    tasks = []
    for name, optimizer, lr, steps, cost in setting.runs:
        convolutional = name.startswith("CNN")
        raw = "sharpness@50" if name in ADAPTIVE else "sharpness:k=2" if convolutional else "sharpness"
        measures: tuple[str, ...] = (*MEASURES, raw)
        if "GD" in name:
            measures += (f"directional_smoothness:method=products@{2 * setting.every}",)
        if name == setting.portrayed:
            measures += (f"spectrum@{steps // setting.spectra}",)
        config = RunConfig(
            data=setting.cnn_data if convolutional else setting.mlp_data,
            model=setting.cnn if convolutional else setting.mlp,
            optimizer=optimizer,
            lr=lr,
            steps=steps,
            every=10 if convolutional else setting.every,  # fewer and longer steps than the other
            measures=measures,
            seed=seed,
            checkpoint_every=max(200, steps // 4),
            threads=1,
        )
        tasks.append(TrainTask(name, config, cost * steps))
    return tasks
