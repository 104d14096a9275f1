"""What the study `dimension` runs in each preset: grids of networks, language models, and two small examples."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edgescope.experiments.dimension.small_examples import AttractorTask, JacobianTask
from edgescope.experiments.dimension.stack_task import StackTask
from edgescope.experiments.preset import Preset
from edgescope.sweep import Task, TrainTask
from edgescope.training import RunConfig

IMAGES = "fashion-5k"
"""The images unless told otherwise."""

AT_THE_END = (
    "loss",
    "accuracy",
    "gradient_norm",
    "sharpness",
    "hessian_trace",
    "hessian_frobenius",
    "average_sharpness",
    "worst_case_sharpness",
    "gradient_noise:samples=500",
    "norms",
    "path_norm",
)


@dataclass(frozen=True)
class NetworkGrid:
    """Networks of one architecture over a grid of learning rates and batch sizes; ``take`` says what of the images,
    ``estimate`` how their dimension is found, in terms of the measure ``sharpness_dimension``."""

    name: str
    take: str
    model: str
    lrs: tuple[float, ...]
    batches: tuple[int, ...]
    seeds: int
    epochs: int
    iterates: int
    estimate: str

    def tasks(self, seed: int, cost: float, images: str) -> list[StackTask]:
        middle = self.lrs[len(self.lrs) // 2]
        return [
            StackTask(
                name=f"{self.name}-b{batch}",
                cost=cost,
                data=with_options(images, self.take),
                model=self.model,
                batch=batch,
                lrs=self.lrs,
                seeds=tuple(range(seed, seed + self.seeds)),
                epochs=self.epochs,
                iterates=self.iterates,
                measures=(*AT_THE_END, f"sharpness_dimension:{self.estimate},batch={batch},fixed_lr={middle:g}"),
                tags={"role": self.name},
            )
            for batch in self.batches
        ]


@dataclass(frozen=True)
class DimensionSettings:
    """What a preset runs."""

    grids: tuple[NetworkGrid, ...]
    costs: tuple[float, ...]
    gpt: str
    length: int
    gpt_steps: int
    gpt_grid: dict[str, tuple[float, ...]]
    gpt_batches: tuple[int, ...]
    gpt_cost: float
    particles: int
    gpt_estimate: str = "methods=slq+kde+ps,batches=2,probes=1,steps=50"
    images: str = ""
    """in place of the images of the study, where these are not told"""


QUICK = DimensionSettings(
    grids=(
        NetworkGrid(
            "mlp",
            "train=1000,test=1000,pool=4",
            "mlp:widths=16x16,activation=relu,bias=false",
            lrs=(0.02, 0.05, 0.1, 0.2),
            batches=(16, 32, 64),
            seeds=2,
            epochs=80,
            iterates=400,
            estimate="methods=exact+slq+kde+ps,batches=3,probes=1,steps=100",
        ),
        NetworkGrid(
            "wide",
            "train=1000,test=1000,pool=4",
            "mlp:widths=40x40x40x40,activation=relu",
            lrs=(0.02, 0.05, 0.1, 0.2),
            batches=(16, 32, 64),
            seeds=1,
            epochs=40,
            iterates=400,
            estimate="methods=slq+kde+ps,batches=3,probes=1,steps=60",
        ),
    ),
    costs=(60.0, 20.0),
    gpt="gpt:width=16,heads=2,depth=1",
    length=32,
    gpt_steps=200,
    gpt_grid={"adamw": (0.003, 0.01)},
    gpt_batches=(16, 32, 64),
    gpt_cost=5.0,
    particles=150_000,
    gpt_estimate="methods=kde+ps,batches=2,probes=1,steps=30",
)

FULL = DimensionSettings(
    grids=(
        NetworkGrid(
            "mlp",
            "train=2500,test=1000,pool=2",
            "mlp:widths=16x16,activation=relu,bias=false",
            lrs=(0.01, 0.02, 0.05, 0.1, 0.2),
            batches=(16, 32, 64, 128, 256),
            seeds=3,
            epochs=250,
            iterates=1000,
            estimate="methods=exact+slq+kde+ps,batches=2,probes=1,steps=100",
        ),
        NetworkGrid(
            "wide",
            "train=2500,test=1000,pool=2",
            "mlp:widths=64x64x64x64,activation=relu",
            lrs=(0.01, 0.02, 0.05, 0.1, 0.2),
            batches=(16, 32, 64, 128, 256),
            seeds=1,
            epochs=100,
            iterates=1000,
            estimate="methods=slq+kde+ps,batches=4,probes=1,steps=100",
        ),
    ),
    costs=(600.0, 100.0),
    gpt="gpt:width=32,heads=4,depth=2",
    length=64,
    gpt_steps=1000,
    gpt_grid={"sgd": (0.1, 0.3, 1.0), "sgd:momentum=0.9": (0.01, 0.03, 0.1), "adamw": (0.001, 0.003, 0.01)},
    gpt_batches=(8, 16, 32),
    gpt_cost=60.0,
    particles=600_000,
)

PAPER = replace(
    FULL,
    grids=(
        replace(
            FULL.grids[0], take="train=60000,test=10000", iterates=5000, seeds=1,
            estimate="methods=exact+slq+kde+ps,batches=100,probes=500,steps=100",
        ),
        replace(
            FULL.grids[1], take="train=60000,test=10000", model="mlp:widths=200x200x200x200,activation=relu",
            iterates=5000, estimate="methods=slq+kde+ps,batches=4,probes=10,steps=100",
        ),
    ),
    costs=(50_000.0, 50_000.0),
    images="mnist",
)  # fmt: skip

UNKNOWN = (
    "Known of the paper's runs: MNIST, 784-16-16-10 without bias for 250 epochs and 784-200-200-200-200-10 for 100, "
    "mini-batch gradient descent with cross-entropy on a grid of 5 learning rates and 5 batch sizes, 500 probes and "
    "100 steps of quadrature for the small network.",
    "Not known: the values of the grid, the initialization, and the seeds.",
    "Replaced: the language models, GPT-2 with 124 million parameters on WikiText-2 in the paper, are those of the "
    "preset full.",
)

SETTINGS: dict[Preset, DimensionSettings] = {"quick": QUICK, "full": FULL, "paper": PAPER}


def with_options(data: str, options: str) -> str:
    """A data set's name with further options."""
    return f"{data}{',' if ':' in data else ':'}{options}"


def dimension_tasks(preset: Preset, seed: int, images: str = IMAGES, text: str = "licence") -> Sequence[Task]:
    """The grids, the language models, the toy attractor, and one network whose Jacobian is decomposed."""
    setting = SETTINGS[preset]
    images = setting.images if setting.images and images == IMAGES else images
    small = RunConfig(
        data=with_options(images, "train=300,test=100,pool=4"),
        model="mlp:widths=12x12,activation=tanh",
        loss="cross-entropy",
        lr=0.5,
        steps=100,
        measures=("loss",),
        seed=seed,
        dtype="float64",
        threads=1,
    )
    grids = zip(setting.grids, setting.costs, strict=True)
    return [
        *(task for grid, cost in grids for task in grid.tasks(seed, cost, images)),
        *_language_models(setting, seed, text),
        AttractorTask("attractor", 10.0, setting.particles, seed, tags={"role": "attractor"}),
        JacobianTask("jacobian", 5.0, small, tags={"role": "jacobian"}),
    ]


def _language_models(setting: DimensionSettings, seed: int, text: str) -> Iterator[TrainTask]:
    ending = f"@{setting.gpt_steps}"
    for optimizer, rates in setting.gpt_grid.items():
        kind = optimizer.replace(":momentum=0.9", "-momentum")
        for lr, batch in itertools.product(rates, setting.gpt_batches):
            config = RunConfig(
                data=with_options(text, f"length={setting.length}"),
                model=setting.gpt,
                loss="cross-entropy",
                optimizer=optimizer,
                lr=lr,
                batch=batch,
                steps=setting.gpt_steps,
                every=setting.gpt_steps // 4,
                measures=(
                    "loss",
                    "accuracy",
                    f"sharpness{ending}",
                    f"hessian_trace{ending}",
                    f"norms{ending}",
                    f"sharpness_dimension:{setting.gpt_estimate},batch={batch},lr={lr:g}{ending}",
                ),
                seed=seed,
                threads=1,
                path="kept",
            )
            tags = {"role": "gpt", "optimizer": kind, "lr": f"{lr:g}", "batch": str(batch), "seed": str(seed)}
            yield TrainTask(f"gpt-{kind}-lr{lr:g}-b{batch}", config, setting.gpt_cost, tags=tags)
