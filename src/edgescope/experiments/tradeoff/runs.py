"""What the study `tradeoff` runs in each preset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgescope.experiments.preset import Preset
from edgescope.experiments.tradeoff.curve_task import CurveTask
from edgescope.experiments.tradeoff.diagonal_task import DiagonalTask
from edgescope.experiments.tradeoff.rescaling_task import RescalingTask
from edgescope.sweep import Task
from edgescope.training import RunConfig

RATIOS = (0.1, 0.3, 0.6, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0)
"""Rates over the critical one: two decades around it, dense where the curves are to bend."""

FINE = (0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
COARSE = (0.4, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0)
"""For networks whose gradients are dear: the lowest rate of two decades takes as many steps as all others together."""

LOGARITHMIC = tuple(
    sorted({*(round(float(r), 3) for r in np.geomspace(0.1, 10, 21)), 0.8, 0.9, 0.95, 1.05, 1.1, 1.2, 1.35, 1.5})
)
"""Evenly on a logarithmic axis, and dense around the critical rate."""


@dataclass(frozen=True)
class CurveFamily:
    """One network, data set and loss from several initialisations; ``cost`` of one curve in CPU-seconds.

    ``threshold`` is the training loss to come down to, ``varied`` what is changed of the plain network. ``every`` is
    the number of steps between two looks at the loss, for networks with batch statistics, which know it at
    measurements alone, and which are not stacked.
    """

    name: str
    network: str
    loss: str
    data: str
    model: str
    threshold: float
    cost: float
    seeds: int = 1
    ratios: tuple[float, ...] = RATIOS
    every: int | None = None
    varied: str = "none"
    flow_steps: int = 20_000

    def but(self, varied: str, **changes: object) -> CurveFamily:
        """This family from one initialisation with something changed."""
        named: dict[str, object] = {"name": f"{self.name}-{varied}", "varied": varied, "seeds": 1}
        return replace(self, **named | changes)  # type: ignore[arg-type]

    def tasks(self, seed: int) -> list[CurveTask]:
        """One curve for each initialisation."""
        tags = {"network": self.network, "loss": self.loss, "data": self.data.partition(":")[0], "varied": self.varied}
        return [
            CurveTask(
                name=f"{self.name}-seed{number}",
                cost=self.cost,
                base=RunConfig(
                    data=self.data,
                    model=self.model,
                    loss=self.loss,
                    stop_loss=self.threshold,
                    seed=number,
                    every=self.every,
                    threads=1,
                    path="kept",
                ),
                ratios=self.ratios,
                stacked=self.every is None,
                flow_steps=self.flow_steps,
                tags=tags | {"seed": str(number), "group": self.name, "curve": f"{self.name}-seed{number}"},
            )
            for number in range(seed, seed + self.seeds)
        ]


MSE, CE = "mse", "cross-entropy"
_SMALL, _IMAGES, _LARGER = (f"fashion-5k:train={n},test=1000,pool=2" for n in (200, 100, 1000))
_TINY = "fashion-5k:train=100,test=300,pool=4"
_MLP, _RELU = "mlp:widths=50x50", "mlp:widths=50x50,activation=relu"
_CNN, _RESNET, _VIT = "cnn:channels=8x8", "resnet:widths=8x16", "vit:patch=7,width=16,heads=2,depth=1"

QUICK = (
    CurveFamily("MLP-MSE", "MLP", MSE, _SMALL, _MLP, 0.05, 20, seeds=4),
    CurveFamily("MLP-CE", "MLP", CE, _SMALL, _RELU, 0.1, 10, seeds=4),
    CurveFamily("digits-MSE", "MLP", MSE, "digits:train=200,test=300", "mlp:widths=32x32", 0.02, 15, seeds=4),
    CurveFamily("CNN-MSE", "CNN", MSE, _IMAGES, f"{_CNN},activation=tanh", 0.15, 45, ratios=RATIOS[1:]),
    CurveFamily("ViT-CE", "ViT", CE, _IMAGES, _VIT, 0.8, 25, ratios=COARSE),
    CurveFamily("ResNet-CE", "ResNet", CE, _TINY, _RESNET, 0.6, 70, ratios=COARSE, every=4),
)

_PLAIN = CurveFamily("MLP-MSE", "MLP", MSE, _SMALL, _MLP, 0.05, 25, seeds=4, ratios=FINE)
_ONCE = replace(_PLAIN, ratios=RATIOS)
FULL = (
    _PLAIN,
    CurveFamily("MLP-CE", "MLP", CE, _SMALL, _RELU, 0.05, 20, seeds=4, ratios=FINE),
    CurveFamily("digits-MSE", "MLP", MSE, "digits:train=800,test=300", _MLP, 0.02, 60, seeds=4, ratios=FINE),
    CurveFamily("CNN-MSE", "CNN", MSE, _IMAGES, f"{_CNN},activation=tanh", 0.12, 150, ratios=FINE),
    CurveFamily("CNN-CE", "CNN", CE, _SMALL, f"{_CNN},activation=relu", 0.4, 180, ratios=FINE),
    CurveFamily("ViT-MSE", "ViT", MSE, _IMAGES, _VIT, 0.1, 90),
    CurveFamily("ViT-CE", "ViT", CE, _IMAGES, _VIT, 0.5, 100),
    CurveFamily("ResNet-MSE", "ResNet", MSE, _TINY, _RESNET, 0.1, 170, every=4),
    CurveFamily("ResNet-CE", "ResNet", CE, _TINY, _RESNET, 0.4, 300, every=4),
    _ONCE.but("1000 samples", data=_LARGER, threshold=0.1, cost=100),
    _ONCE.but("width 25", model="mlp:widths=25x25", cost=20),
    _ONCE.but("width 150", model="mlp:widths=150x150", cost=80),
    _ONCE.but("ReLU", model=_RELU),
    _ONCE.but("to 0.15", threshold=0.15, cost=10),
    _ONCE.but("to 0.02", threshold=0.02, cost=80),
    _ONCE.but("start halved", model=f"{_MLP},gain=0.5", cost=30),
    _ONCE.but("start doubled", model=f"{_MLP},gain=2", cost=30),
)

_WIDE = "mlp:widths=200x200"
_PAPER = CurveFamily(
    "MLP-MSE", "MLP", MSE, "cifar10-5k", _WIDE, 0.05, 3e4, seeds=4, ratios=LOGARITHMIC, flow_steps=200_000
)


def _both_losses(network: str, model: str, cost: float, every: int | None = None) -> tuple[CurveFamily, CurveFamily]:
    plain = replace(_PAPER, name=f"{network}-MSE", network=network, model=model, cost=cost, seeds=1, every=every)
    return plain, replace(plain, name=f"{network}-CE", loss=CE, threshold=0.1)


PAPER = (
    _PAPER,
    replace(_PAPER, name="MLP-CE", loss=CE, model=f"{_WIDE},activation=relu", threshold=0.1),
    replace(_PAPER, name="MNIST-MSE", data="mnist:train=5000", threshold=0.02, cost=1e4),
    *_both_losses("CNN", "cnn:activation=tanh", 3e5),
    *_both_losses("ResNet", "resnet:blocks=3", 3e6, every=4),
    *_both_losses("ViT", "vit", 1e6),
    _PAPER.but("1000 samples", data="cifar10-5k:train=1000", cost=6e3),
    _PAPER.but("width 100", model="mlp:widths=100x100"),
    _PAPER.but("width 400", model="mlp:widths=400x400", cost=6e4),
    _PAPER.but("depth 4", model="mlp:widths=200x200x200x200"),
    _PAPER.but("ReLU", model=f"{_WIDE},activation=relu"),
    _PAPER.but("to 0.15", threshold=0.15, cost=1e4),
    _PAPER.but("start halved", model=f"{_WIDE},gain=0.5"),
    _PAPER.but("start doubled", model=f"{_WIDE},gain=2"),
)

FAMILIES: dict[Preset, tuple[CurveFamily, ...]] = {"quick": QUICK, "full": FULL, "paper": PAPER}

DRAWS: dict[Preset, int] = {"quick": 4, "full": 6, "paper": 20}
"""Random diagonal regressions on several samples."""

GOLDEN_RATIOS = (0.6, 1.05, 1.8, 1.95)
"""Rates, over the measured critical one, of a table that was computed apart, with which claims compare."""

_ONE = tuple(sorted({0.1, 0.2, 0.4, 0.8, 0.9, *(round(1 + k / 20, 2) for k in range(17)), *GOLDEN_RATIOS, 2.5}))
_SEVERAL = (0.1, 0.2, 0.4, 0.8, *(round(0.9 + k / 20, 2) for k in range(23)), 2.5)


def tradeoff_tasks(preset: Preset, seed: int) -> Sequence[Task]:
    """A curve for each network and initialisation, the diagonal networks, and one network with rescaled weights."""
    relu = RunConfig(
        data=_SMALL,
        model=_RELU,
        loss=MSE,
        lr=0.1,
        steps=200,
        measures=("loss", "norms", "sharpness", "average_sharpness", "worst_case_sharpness", "path_norm"),
        seed=seed,
        threads=1,
        path="kept",
    )
    several = [
        DiagonalTask(
            f"diagonal-several-{number}",
            cost=2.0,
            ratios=_SEVERAL,
            samples=5,
            inputs=20,
            seed=number,
            tol=1e-8,
            max_steps=300_000,
            tags={"role": "diagonal", "samples": "several", "seed": str(number)},
        )
        for number in range(seed, seed + DRAWS[preset])
    ]
    return [
        *(task for family in FAMILIES[preset] for task in family.tasks(seed)),
        DiagonalTask("diagonal-one-sample", 3.0, _ONE, tags={"role": "diagonal", "samples": "one"}),
        *several,
        RescalingTask("rescaled-ReLU", relu, 3.0, tags={"role": "rescaled", "seed": str(seed)}),
    ]
