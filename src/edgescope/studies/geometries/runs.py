"""The runs of the study `geometries`, quick and full."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgescope.geometry import generalized_sharpness
from edgescope.measures.optimizer_geometry import geometry_of
from edgescope.optim import OPTIMIZERS, rule_for
from edgescope.store import Record
from edgescope.studies.geometries.quadratics import QuadraticsTask
from edgescope.studies.study import Preset, TrainTask, carry_out
from edgescope.sweep import Task
from edgescope.training import Parts, RunConfig

METHODS = {
    "GD": "steepest:geometry=euclidean",
    "preconditioned": "steepest:geometry=diagonal:preconditioner=log-uniform",
    "Linf": "steepest:geometry=linf",
    "blocks": "steepest:geometry=blocks",
    "spectral": "steepest:geometry=spectral",
    "sign": "steepest:geometry=linf,normalized=true",
    "spectral-normalized": "steepest:geometry=spectral,normalized=true",
}
"""The methods by the names that runs carry after that of their network."""

FEWER = ("GD", "Linf", "spectral", "sign", "spectral-normalized")
"""Those that the preset quick runs on the convolutional network; the fully connected one has all."""

BELOW = 1.5
"""Every run starts this far below its threshold: at the start the threshold is BELOW times the sharpness, in the
geometry of the method. The one rule for all learning rates, whatever comes of it."""

AHEAD = 100
"""Steps for which network and quadratic model are compared at the end of a run."""

CHEN_RATE = 0.007
"""Of Chen et al.'s normalized Spectral descent."""

FORGETTING = (0.99, 0.5, 0.0)
"""Memories beta2 of RMSProp, at the rate of sign descent, which it is where beta2 = 0."""


@dataclass(frozen=True)
class Network:
    """Data and model of some runs, and how many steps each method has; ``step_cost`` is in any unit."""

    data: str
    model: str
    loss: str
    every: int
    step_cost: float
    steps: dict[str, int]
    dtype: str = "float64"


@dataclass(frozen=True)
class DescentTask:
    """A run at the rate at which the threshold of ``optimizer`` is ``below`` times its sharpness at the start.

    ``optimizer`` is that of ``config`` unless it is named. The sharpness is the lower end; the
    rate has three digits, so that it does not depend on how sums are rounded.
    """

    name: str
    config: RunConfig
    cost: float
    below: float = BELOW
    optimizer: str | None = None

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None:
        if (folder / "record.sqlite").exists():
            with Record.open(folder) as record:
                rate = record.config["lr"]
        else:
            rate = self.rate()
        carry_out(replace(self.config, lr=rate), folder, progress)

    def rate(self) -> float:
        """The learning rate that the rule gives."""
        parts = Parts(self.config)
        optimizer = OPTIMIZERS.build(self.optimizer or self.config.optimizer).build(parts.model.parameters(), lr=1.0)
        objective = parts.objective(parts.samples, parts.mode, path=self.config.path, threads=self.config.threads)
        rule, gradient = rule_for(optimizer, objective.tensors), objective.gradient()
        found = generalized_sharpness(objective, geometry_of(rule), gradient=gradient)
        return float(f"{rule.threshold().at(gradient) / (self.below * found.lower):.3g}")


_QUICK = {
    "MLP": Network(
        data="fashion-5k:train=200,test=100,pool=2",
        model="mlp:widths=50x50,activation=tanh",
        loss="mse",
        every=20,
        step_cost=1.0,
        steps=dict.fromkeys(METHODS, 600) | {"blocks": 2200},
    ),
    "CNN": Network(
        data="fashion-5k:train=100,test=100,pool=4",
        model="cnn:channels=8x8,activation=tanh",
        loss="mse",
        every=20,
        step_cost=1.2,
        steps=dict.fromkeys(FEWER, 600),
    ),
    "GPT": Network(
        data="licence:length=16,train=16,test=16",
        model="gpt:width=16,heads=2,depth=1",
        loss="cross-entropy",
        every=20,
        step_cost=2.0,
        steps=dict.fromkeys(("GD", "Linf", "spectral"), 450),
    ),
}
_FULL = {
    "MLP": Network(
        data="fashion-5k:train=1000,test=500,pool=2",
        model="mlp:widths=100x100,activation=tanh",
        loss="mse",
        every=30,
        step_cost=1.0,
        steps=dict.fromkeys(METHODS, 1500) | {"blocks": 3000},
    ),
    "CNN": Network(
        data="fashion-5k:train=300,test=300,pool=2",
        model="cnn:channels=8x8,activation=tanh",
        loss="mse",
        every=20,
        step_cost=2.0,
        steps=dict.fromkeys(METHODS, 1200) | {"blocks": 2000},
    ),
    "ResNet": Network(
        data="fashion-5k:train=300,test=300,pool=2",
        model="resnet:widths=8x16,blocks=1",
        loss="mse",
        every=20,
        step_cost=12.0,
        steps={"Linf": 600, "spectral": 600},
        dtype="float32",
    ),
    "GPT": Network(
        data="licence:length=32,train=32,test=32",
        model="gpt:width=32,heads=2,depth=2",
        loss="cross-entropy",
        every=25,
        step_cost=5.0,
        steps=dict.fromkeys(METHODS, 800),
    ),
}
_CHEN_QUICK = {
    "MLP": Network("fashion-5k:train=200,test=100,pool=2", "mlp:widths=64x64", "mse", 50, 1.5, {"Chen": 500}),
    "CNN": Network(
        "fashion-5k:train=100,test=100,pool=2",
        "cnn:channels=4x8,activation=tanh,dense=32",
        "mse",
        50,
        2.0,
        {"Chen": 700},
    ),
}
_CHEN_FULL = {
    "MLP": Network("fashion-5k", "mlp:widths=128x128", "mse", 50, 12.0, {"Chen": 1500}, "float32"),
    "CNN": Network(
        "fashion-5k:train=600,test=500,pool=2",
        "cnn:channels=32x64,activation=tanh,dense=128",
        "mse",
        50,
        9.0,
        {"Chen": 1500},
        "float32",
    ),
    "GPT": Network("licence", "gpt", "cross-entropy", 50, 16.0, {"Chen": 1000}, "float32"),
}
"""Chen et al.'s networks on what is at hand: Fashion-MNIST instead of CIFAR-10, this licence instead of Shakespeare."""

MEASURES = ("training_loss@1", "loss", "time", "directional_smoothness@1", "oscillation@1")


def geometry_tasks(preset: Preset, seed: int) -> list[Task]:
    """All runs: every method on every network, RMSProp as it forgets, Chen et al.'s run, and the quadratics."""
    quick = preset == "quick"
    networks, chen = (_QUICK, _CHEN_QUICK) if quick else (_FULL, _CHEN_FULL)
    tasks: list[Task] = []
    for network, setting in networks.items():
        for method, steps in setting.steps.items():
            plain = "sharpness:k=4,tol=0.01" if method == "GD" else "sharpness"
            ahead = f"quadratic_model:steps={AHEAD}@{steps}"
            measures = (*MEASURES, plain, "generalized_sharpness:certificate=4", ahead)
            config = _config(setting, METHODS[method], steps, seed, measures)
            tasks.append(DescentTask(f"{network}-{method}", config, setting.step_cost * steps))
    mlp = networks["MLP"]
    for beta2 in FORGETTING:
        steps = 2 * mlp.steps["sign"] // 3
        forgetful = ("training_loss@1", "loss", "time", "effective_sharpness", "ratio")
        config = _config(mlp, f"rmsprop:alpha={beta2:g}", steps, seed, forgetful)
        task = DescentTask(f"RMSProp-{beta2:g}", config, mlp.step_cost * steps, optimizer=METHODS["sign"])
        tasks.append(task)
    for network, setting in chen.items():
        steps = setting.steps["Chen"]
        config = _config(setting, METHODS["spectral-normalized"], steps, seed, MEASURES[:-1])
        tasks.append(TrainTask(f"Chen-{network}", replace(config, lr=CHEN_RATE), setting.step_cost * steps))
    return [*tasks, QuadraticsTask("quadratics", seed, cost=100.0)]


def _config(setting: Network, optimizer: str, steps: int, seed: int, measures: tuple[str, ...]) -> RunConfig:
    return RunConfig(
        data=setting.data,
        model=setting.model,
        loss=setting.loss,
        optimizer=optimizer,
        lr=1.0,  # chosen at the start
        steps=steps,
        every=setting.every,
        measures=measures,
        seed=seed,
        dtype=setting.dtype,
        checkpoint_every=max(200, steps // 4),
        threads=1,
        path="kept",
    )
