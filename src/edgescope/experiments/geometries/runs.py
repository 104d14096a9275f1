"""The runs of the study `geometries`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgescope.experiments.geometries.quadratics import QuadraticsTask
from edgescope.experiments.preset import Preset
from edgescope.measures.optimizer_geometry import geometry_of
from edgescope.optim import OPTIMIZERS, rule_for
from edgescope.progress import Progress
from edgescope.sharpness import generalized_sharpness
from edgescope.store import Record
from edgescope.store.record import FILE
from edgescope.sweep import Tagged, Task, TrainTask, run_training
from edgescope.training import Parts, RunConfig

METHODS = {
    "gd": "steepest:geometry=euclidean",
    "preconditioned": "steepest:geometry=diagonal:preconditioner=log-uniform",
    "linf": "steepest:geometry=linf",
    "blocks": "steepest:geometry=blocks",
    "spectral": "steepest:geometry=spectral",
    "sign": "steepest:geometry=linf,normalized=true",
    "spectral-normalized": "steepest:geometry=spectral,normalized=true",
}
"""The optimizers by the tag ``method``."""

NAMES = {"gd": "GD", "linf": "Linf"}
"""How a method is written in the name of a run, where that is not its tag."""

FEWER = ("gd", "linf", "spectral", "sign", "spectral-normalized")
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
class NetworkRuns:
    """Data and model of some runs, and how many steps each method has; ``step_cost`` is in any unit."""

    data: str
    model: str
    loss: str
    every: int
    step_cost: float
    steps: dict[str, int]
    dtype: str = "float64"


@dataclass(frozen=True)
class BelowThresholdTask(Tagged):
    """A run at the rate at which the threshold of ``optimizer`` is ``below`` times its sharpness at the start.

    ``optimizer`` is that of ``config`` unless it is named. The sharpness is the lower end; the
    rate has three digits, so that it does not depend on how sums are rounded.
    """

    name: str
    config: RunConfig
    cost: float
    below: float = BELOW
    optimizer: str | None = None

    def run(self, folder: Path, progress: Progress) -> None:
        if (folder / FILE).exists():
            with Record.open(folder) as record:
                rate = record.config["lr"]
        else:
            rate = self.rate()
        run_training(replace(self.config, lr=rate), folder, progress, self.tags)

    def rate(self) -> float:
        """The learning rate that the rule gives."""
        parts = Parts(self.config)
        optimizer = OPTIMIZERS.build(self.optimizer or self.config.optimizer).build(parts.model.parameters(), lr=1.0)
        objective = parts.objective(parts.samples, parts.mode, path=self.config.path, threads=self.config.threads)
        rule, gradient = rule_for(optimizer, objective.tensors), objective.gradient()
        found = generalized_sharpness(objective, geometry_of(rule), gradient=gradient)
        return float(f"{rule.threshold().at(gradient) / (self.below * found.lower):.3g}")


_QUICK = {
    "MLP": NetworkRuns(
        data="fashion-5k:train=200,test=100,pool=2",
        model="mlp:widths=50x50,activation=tanh",
        loss="mse",
        every=20,
        step_cost=1.0,
        steps=dict.fromkeys(METHODS, 600) | {"blocks": 2200},
    ),
    "CNN": NetworkRuns(
        data="fashion-5k:train=100,test=100,pool=4",
        model="cnn:channels=8x8,activation=tanh",
        loss="mse",
        every=20,
        step_cost=1.2,
        steps=dict.fromkeys(FEWER, 600),
    ),
    "GPT": NetworkRuns(
        data="licence:length=16,train=16,test=16",
        model="gpt:width=16,heads=2,depth=1",
        loss="cross-entropy",
        every=20,
        step_cost=2.0,
        steps=dict.fromkeys(("gd", "linf", "spectral"), 450),
    ),
}
_FULL = {
    "MLP": NetworkRuns(
        data="fashion-5k:train=1000,test=500,pool=2",
        model="mlp:widths=100x100,activation=tanh",
        loss="mse",
        every=30,
        step_cost=1.0,
        steps=dict.fromkeys(METHODS, 1500) | {"blocks": 3000},
    ),
    "CNN": NetworkRuns(
        data="fashion-5k:train=300,test=300,pool=2",
        model="cnn:channels=8x8,activation=tanh",
        loss="mse",
        every=20,
        step_cost=2.0,
        steps=dict.fromkeys(METHODS, 1200) | {"blocks": 2000},
    ),
    "ResNet": NetworkRuns(
        data="fashion-5k:train=300,test=300,pool=2",
        model="resnet:widths=8x16,blocks=1",
        loss="mse",
        every=20,
        step_cost=12.0,
        steps={"linf": 600, "spectral": 600},
        dtype="float32",
    ),
    "GPT": NetworkRuns(
        data="licence:length=32,train=32,test=32",
        model="gpt:width=32,heads=2,depth=2",
        loss="cross-entropy",
        every=25,
        step_cost=5.0,
        steps=dict.fromkeys(METHODS, 800),
    ),
}
_CHEN_QUICK = {
    "MLP": NetworkRuns("fashion-5k:train=200,test=100,pool=2", "mlp:widths=64x64", "mse", 50, 1.5, {"Chen": 500}),
    "CNN": NetworkRuns(
        "fashion-5k:train=100,test=100,pool=2",
        "cnn:channels=4x8,activation=tanh,dense=32",
        "mse",
        50,
        2.0,
        {"Chen": 700},
    ),
}
_CHEN_FULL = {
    "MLP": NetworkRuns("fashion-5k", "mlp:widths=128x128", "mse", 50, 12.0, {"Chen": 1500}, "float32"),
    "CNN": NetworkRuns(
        "fashion-5k:train=600,test=500,pool=2",
        "cnn:channels=32x64,activation=tanh,dense=128",
        "mse",
        50,
        9.0,
        {"Chen": 1500},
        "float32",
    ),
    "GPT": NetworkRuns("licence", "gpt", "cross-entropy", 50, 16.0, {"Chen": 1000}, "float32"),
}
"""Chen et al.'s networks on what is at hand: Fashion-MNIST instead of CIFAR-10, this licence instead of Shakespeare."""

_MLP_PAPER = NetworkRuns("cifar10-5k", "mlp:widths=200x200,activation=tanh", "mse", 50, 10.0, {}, "float32")
_PAPER = {
    "MLP": replace(_MLP_PAPER, steps=dict.fromkeys(METHODS, 5000)),
    "CNN": replace(_MLP_PAPER, model="cnn:channels=32x32,activation=tanh", steps=dict.fromkeys(METHODS, 5000)),
    "MLP-50k": replace(_MLP_PAPER, data="cifar10", steps=dict.fromkeys(METHODS, 5000), step_cost=100.0),
    "ResNet": replace(
        _MLP_PAPER, data="cifar10", model="resnet:blocks=3", steps={"linf": 3000, "spectral": 3000}, step_cost=900.0
    ),
    "GPT": NetworkRuns("licence", "gpt", "cross-entropy", 50, 60.0, dict.fromkeys(METHODS, 3000), "float32"),
}
_CHEN_PAPER = {
    "MLP": NetworkRuns("cifar10", "mlp:widths=128x128", "mse", 50, 100.0, {"Chen": 1500}, "float32"),
    "CNN": NetworkRuns(
        "cifar10", "cnn:channels=32x64,activation=tanh,dense=128", "mse", 50, 500.0, {"Chen": 1500}, "float32"
    ),
    "GPT": NetworkRuns("licence", "gpt", "cross-entropy", 50, 60.0, {"Chen": 1500}, "float32"),
}

UNKNOWN = (
    "Known of the runs of Islamov et al.: fully connected and convolutional networks on 5,000 images of CIFAR-10 and "
    "on all of it, ResNet20 and VGG11 on CIFAR-10, all with the squared loss, and a transformer on TinyShakespeare "
    "with cross-entropy; full batch, no momentum.",
    "Not known: their learning rates, widths and numbers of steps; one rule sets all learning rates.",
    "Left out or replaced: VGG11 is not among the models; the text of the Apache License stands for TinyShakespeare.",
    "Known of the runs of Chen et al.: networks, data, the learning rate 0.007 and 1,500 updates, in float32.",
)

_PRESETS: dict[Preset, tuple[dict[str, NetworkRuns], dict[str, NetworkRuns]]] = {
    "quick": (_QUICK, _CHEN_QUICK),
    "full": (_FULL, _CHEN_FULL),
    "paper": (_PAPER, _CHEN_PAPER),
}

MEASURES = ("training_loss@1", "loss", "time", "directional_smoothness@1", "oscillation@1")


def geometry_tasks(preset: Preset, seed: int) -> list[Task]:
    """All runs: every method on every network, RMSProp as it forgets, Chen et al.'s run, and the quadratics."""
    networks, chen = _PRESETS[preset]
    tasks: list[Task] = []
    for network, setting in networks.items():
        for method, steps in setting.steps.items():
            plain = "sharpness:k=4,tol=0.01" if method == "gd" else "sharpness"
            ahead = f"quadratic_model:steps={AHEAD}@{steps}"
            measures = (*MEASURES, plain, "generalized_sharpness:certificate=4", ahead)
            config = _config(setting, METHODS[method], steps, seed, measures)
            tags = _tags("descent", network, method, setting, seed)
            name = f"{network}-{NAMES.get(method, method)}"
            tasks.append(BelowThresholdTask(name, config, setting.step_cost * steps, tags=tags))
    mlp = networks["MLP"]
    for beta2 in FORGETTING:
        steps = 2 * mlp.steps["sign"] // 3
        forgetful = ("training_loss@1", "loss", "time", "effective_sharpness", "ratio")
        config = _config(mlp, f"rmsprop:alpha={beta2:g}", steps, seed, forgetful)
        tags = _tags("rmsprop", "MLP", "rmsprop", mlp, seed) | {"beta2": f"{beta2:g}"}
        cost, sign = mlp.step_cost * steps, METHODS["sign"]
        tasks.append(BelowThresholdTask(f"RMSProp-{beta2:g}", config, cost, optimizer=sign, tags=tags))
    for network, setting in chen.items():
        steps = setting.steps["Chen"]
        config = _config(setting, METHODS["spectral-normalized"], steps, seed, MEASURES[:-1])
        tags = _tags("chen", network, "spectral-normalized", setting, seed)
        cost = setting.step_cost * steps
        tasks.append(TrainTask(f"Chen-{network}", replace(config, lr=CHEN_RATE), cost, tags=tags))
    return [*tasks, QuadraticsTask("quadratics", seed, cost=100.0, tags={"role": "quadratics", "seed": str(seed)})]


def _tags(role: str, network: str, method: str, setting: NetworkRuns, seed: int) -> dict[str, str]:
    return {
        "role": role,
        "network": network,
        "method": method,
        "normalized": "yes" if "normalized=true" in METHODS.get(method, "") else "no",
        "loss": setting.loss,
        "precision": setting.dtype,
        "seed": str(seed),
    }


def _config(setting: NetworkRuns, optimizer: str, steps: int, seed: int, measures: tuple[str, ...]) -> RunConfig:
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
