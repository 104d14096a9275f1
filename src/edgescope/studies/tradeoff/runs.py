"""The runs of the study `tradeoff`, quick and full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgescope.studies.study import Preset
from edgescope.studies.tradeoff.curve_task import CurveTask
from edgescope.studies.tradeoff.diagonal import GOLDEN_RATIOS, DiagonalTask
from edgescope.studies.tradeoff.rescaling import RescalingTask
from edgescope.sweep import Task
from edgescope.training import RunConfig

LOSSES = {"MSE": "mse", "CE": "cross-entropy"}

RATIOS = (0.1, 0.3, 0.6, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0)
"""Rates over the critical one: two decades around it, dense where the curves are to bend."""

FINE = (0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
COARSE = (0.4, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0)
"""For networks whose gradients are dear: the lowest rate of two decades takes as many steps as all others together."""


@dataclass(frozen=True)
class Family:
    """One network, data set and loss from several initialisations; ``cost`` of one curve in CPU-seconds.

    ``name`` is ARCHITECTURE-LOSS, perhaps with what is varied. ``threshold`` is the training loss to come down to.
    ``every`` is the number of steps between two looks at the loss, for networks with batch statistics, which know it
    at measurements alone, and which are not stacked.
    """

    name: str
    data: str
    model: str
    threshold: float
    cost: float
    seeds: int = 1
    ratios: tuple[float, ...] = RATIOS
    every: int | None = None

    def tasks(self, seed: int) -> list[CurveTask]:
        return [
            CurveTask(
                name=f"{self.name}-seed{number}",
                cost=self.cost,
                base=RunConfig(
                    data=self.data,
                    model=self.model,
                    loss=LOSSES[self.name.split("-")[1]],
                    stop_loss=self.threshold,
                    seed=number,
                    every=self.every,
                    threads=1,
                    path="kept",
                ),
                ratios=self.ratios,
                stacked=self.every is None,
            )
            for number in range(seed, seed + self.seeds)
        ]


_SMALL, _IMAGES = "fashion-5k:train=200,test=1000,pool=2", "fashion-5k:train=100,test=1000,pool=2"
_TINY = "fashion-5k:train=100,test=300,pool=4"
"""Of a network that looks at its test loss on the way, since it does so where it looks at its training loss."""
_MLP = "mlp:widths=50x50"

QUICK = (
    Family("MLP-MSE", _SMALL, _MLP, 0.05, 20, seeds=2),
    Family("MLP-CE", _SMALL, "mlp:widths=50x50,activation=relu", 0.1, 10, seeds=2),
    Family("digits-MSE", "digits:train=200,test=300", "mlp:widths=32x32", 0.02, 15, seeds=2),
    Family("CNN-MSE", _IMAGES, "cnn:channels=8x8,activation=tanh", 0.15, 45, ratios=RATIOS[1:]),
    Family("ViT-CE", _IMAGES, "vit:patch=7,width=16,heads=2,depth=1", 0.8, 25, ratios=COARSE),
    Family("ResNet-CE", _TINY, "resnet:widths=8x16", 0.6, 70, ratios=COARSE, every=4),
)

_LARGER = "fashion-5k:train=1000,test=1000,pool=2"
_RESNET = "resnet:widths=8x16"
_VIT = "vit:patch=7,width=16,heads=2,depth=1"
_CNN = "cnn:channels=8x8"

FULL = (
    Family("MLP-MSE", _SMALL, _MLP, 0.05, 25, seeds=4, ratios=FINE),
    Family("MLP-CE", _SMALL, "mlp:widths=50x50,activation=relu", 0.05, 20, seeds=4, ratios=FINE),
    Family("digits-MSE", "digits:train=800,test=300", "mlp:widths=50x50", 0.02, 60, seeds=4, ratios=FINE),
    Family("CNN-MSE", _IMAGES, f"{_CNN},activation=tanh", 0.12, 150, ratios=FINE),
    Family("CNN-CE", _SMALL, f"{_CNN},activation=relu", 0.4, 180, ratios=FINE),
    Family("ViT-MSE", _IMAGES, _VIT, 0.1, 90),
    Family("ViT-CE", _IMAGES, _VIT, 0.5, 100),
    Family("ResNet-MSE", _TINY, _RESNET, 0.1, 170, every=4),
    Family("ResNet-CE", _TINY, _RESNET, 0.4, 300, every=4),
    Family("MLP-MSE-1000 samples", _LARGER, _MLP, 0.1, 100),
    Family("MLP-MSE-width 25", _SMALL, "mlp:widths=25x25", 0.05, 20),
    Family("MLP-MSE-width 150", _SMALL, "mlp:widths=150x150", 0.05, 80),
    Family("MLP-MSE-ReLU", _SMALL, "mlp:widths=50x50,activation=relu", 0.05, 25),
    Family("MLP-MSE-to 0.15", _SMALL, _MLP, 0.15, 10),
    Family("MLP-MSE-to 0.02", _SMALL, _MLP, 0.02, 80),
    Family("MLP-MSE-start halved", _SMALL, "mlp:widths=50x50,gain=0.5", 0.05, 30),
    Family("MLP-MSE-start doubled", _SMALL, "mlp:widths=50x50,gain=2", 0.05, 30),
)

FAMILIES = {"quick": QUICK, "full": FULL}

DRAWS = {"quick": 4, "full": 6}
"""Random diagonal regressions on several samples."""

_ONE = tuple(sorted({0.1, 0.2, 0.4, 0.8, 0.9, *(round(1 + k / 20, 2) for k in range(17)), *GOLDEN_RATIOS, 2.5}))
_SEVERAL = (0.1, 0.2, 0.4, 0.8, *(round(0.9 + k / 20, 2) for k in range(23)), 2.5)


def tradeoff_tasks(preset: Preset, seed: int) -> Sequence[Task]:
    """A curve for each network and initialisation, the diagonal networks, and one network with rescaled weights."""
    relu = RunConfig(
        data=_SMALL,
        model="mlp:widths=50x50,activation=relu",
        loss="mse",
        lr=0.1,
        steps=200,
        measures=("loss", "norms", "sharpness", "average_sharpness", "worst_case_sharpness", "path_norm"),
        seed=seed,
        threads=1,
        path="kept",
    )
    return [
        *(task for family in FAMILIES[preset] for task in family.tasks(seed)),
        DiagonalTask("diagonal-one-sample", 3.0, _ONE),
        *(
            DiagonalTask(f"diagonal-several-{number}", 2.0, _SEVERAL, 5, 20, number, tol=1e-8, max_steps=300_000)
            for number in range(seed, seed + DRAWS[preset])
        ),
        RescalingTask("rescaled-ReLU", relu, 3.0),
    ]
