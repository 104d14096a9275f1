"""The runs of the study `flatness`, quick and full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgescope.studies.flatness.constructions import ConstructionsTask
from edgescope.studies.flatness.descents import DescentTask, Stage
from edgescope.studies.flatness.sample_sizes import SampleSizesTask
from edgescope.studies.study import Preset, TrainTask
from edgescope.studies.tradeoff.rescaling import RescalingTask
from edgescope.sweep import Task
from edgescope.training import RunConfig

NETWORKS = {
    "no-bias": ("xor", "architecture=no-bias", "squared"),
    "bias": ("xor", "architecture=bias", "squared"),
    "bias-narrow": ("xor", "architecture=bias", "squared"),
    "batchnorm": ("xor", "architecture=batchnorm", "squared"),
    "layernorm": ("xor", "architecture=layernorm,first=0.01", "squared"),
    "softplus": ("xor", "architecture=bias,activation=softplus", "squared"),
    "logistic": ("xor", "architecture=bias", "logistic:smoothing=0.2"),
    "three-layers": ("xor", "architecture=bias,depth=3", "squared"),
    "ball-no-bias": ("ball", "architecture=no-bias", "squared"),
    "ball-bias": ("ball", "architecture=bias", "squared"),
}
"""Data, network and loss by the names that runs begin with."""

METHODS = {"1SAM": "SAM", "noise": "label noise", "SAM": "SAM", "GD": "descent", "SGD": "descent"}
"""What the second half of a run's name stands for; SAM and GD take full batches."""

RADII = (0.05, 0.1, 0.2)
"""Of SAM on the user's own network."""


@dataclass(frozen=True)
class Setting:
    """What a preset runs: stages by the name of the run; ``width`` of the networks, ``narrow`` of the costly ones
    (batch normalisation and three layers); ``seeds`` of single-sample SAM on the paper's networks, ``scattered`` of
    that with layer normalisation, whose seeds differ most about its claim, ``fewer`` of the rest."""

    width: int
    narrow: dict[str, int]
    stages: dict[str, tuple[Stage, ...]]
    seeds: int
    scattered: int
    fewer: int
    dims: tuple[int, ...]
    shares: tuple[float, ...]
    updates: int
    sweep_seeds: int
    own_steps: int
    own_seeds: int


def _stages(epochs: int, full_batch: int) -> dict[str, tuple[Stage, ...]]:
    """The paper's rates and radii where it has the run, for ``epochs`` in the place of its 1e5, and ``full_batch``
    steps of full-batch methods. Rates, radii and noise of runs that it does not have are ours, and so are the second
    radius with batch norm and the rate of the descent, ten times its own: the same flow, in a tenth of the steps."""
    half, fifth, tenth = epochs // 2, epochs // 5, epochs // 10
    return {
        "no-bias-1SAM": (Stage(half, 0.01, 0.05),),
        "bias-1SAM": (Stage(epochs, 0.01, 0.05), Stage(half, 0.01, 0.1)),
        "bias-narrow-1SAM": (Stage(half, 0.01, 0.05),),
        "batchnorm-1SAM": (Stage(tenth * 6 // 10, 0.005, 0.1), Stage(tenth, 0.005, 0.3)),
        "layernorm-1SAM": (Stage(half, 0.1, 0.1),),
        "no-bias-GD": (Stage(4 * full_batch // 3, 0.03, decay=0.05),),
        "bias-GD": (Stage(2 * full_batch // 3, 0.1, decay=0.05),),
        "no-bias-noise": (Stage(half, 0.01, sigma=0.3),),
        "bias-noise": (Stage(half, 0.01, sigma=0.3),),
        "batchnorm-noise": (Stage(tenth, 0.005, sigma=0.3),),
        "layernorm-noise": (Stage(half, 0.1, sigma=0.3),),
        "no-bias-SAM": (Stage(full_batch // 2, 0.03, 0.5),),
        "bias-SAM": (Stage(full_batch // 2, 0.03, 0.5),),
        "batchnorm-SAM": (Stage(full_batch // 2, 0.03, 0.5),),
        "layernorm-SAM": (Stage(full_batch // 2, 0.1, 0.5),),
        "softplus-1SAM": (Stage(fifth, 0.0005, 0.05), Stage(fifth, 0.001, 0.1), Stage(tenth // 10, 0.005, 1.0)),
        "softplus-SGD": (Stage(2 * fifth, 0.001, decay=0.05),),
        "logistic-1SAM": (Stage(2 * fifth, 0.1, 0.2),),
        "logistic-SGD": (Stage(2 * fifth, 0.01, decay=0.05),),
        "three-layers-1SAM": (Stage(fifth, 0.01, 0.05),),
        "three-layers-SGD": (Stage(fifth, 0.01, decay=0.05),),
        "ball-no-bias-1SAM": (Stage(fifth, 0.01, 0.2),),
        "ball-bias-1SAM": (Stage(fifth, 0.01, 0.2),),
    }


QUICK = Setting(
    width=500,
    narrow={"batchnorm": 40, "three-layers": 80, "bias-narrow": 100},
    stages=_stages(10_000, 3_000),
    seeds=3,
    scattered=3,
    fewer=2,
    dims=(10, 20, 30),
    shares=(0.25, 0.5, 0.75, 1.0, 1.5),
    updates=120_000,
    sweep_seeds=3,
    own_steps=1000,
    own_seeds=2,
)

FULL = Setting(
    width=500,
    narrow={"batchnorm": 100, "three-layers": 100, "bias-narrow": 100},
    stages=_stages(150_000, 30_000),
    seeds=3,
    scattered=8,
    fewer=2,
    dims=(10, 20, 30, 40),
    shares=(0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5),
    updates=600_000,
    sweep_seeds=4,
    own_steps=5000,
    own_seeds=3,
)

SETTINGS = {"quick": QUICK, "full": FULL}

BESIDE = ("softplus", "logistic", "three-layers", "ball")
"""Networks whose runs have ``fewer`` seeds, as full-batch and label-noise runs have: they cost more, or say less."""

OWN_MEASURES = ("loss", "accuracy", "sharpness@end", "hessian_trace@end", "worst_case_sharpness@end")


def flatness_tasks(preset: Preset, seed: int, data: str, model: str, loss: str, lr: float) -> list[Task]:
    """All runs; ``data``, ``model``, ``loss`` and ``lr`` are those of the user's own network."""
    setting = SETTINGS[preset]
    tasks: list[Task] = [descent_task(name, setting, seed) for name in setting.stages]
    for dim in setting.dims:
        tasks.append(
            SampleSizesTask(
                name=f"samples-d{dim}",
                cost=len(setting.shares) * setting.sweep_seeds * setting.updates * 2.7e-6 * (0.4 + dim / 50),
                dim=dim,
                shares=setting.shares,
                steps=setting.updates,
                width=200,
                seeds=tuple(range(seed, seed + setting.sweep_seeds)),
            )
        )
    return [
        *tasks,
        *own_tasks(data, model, loss, lr, setting.own_steps, range(seed, seed + setting.own_seeds)),
        ConstructionsTask("constructions", 5.0, seed),
    ]


def descent_task(name: str, setting: Setting, seed: int) -> DescentTask:
    """The run of this name from all its seeds."""
    network, method = name.rsplit("-", 1)
    data, kind, loss = NETWORKS[network]
    width = setting.narrow.get(network, setting.width)
    full_batch = method in ("SAM", "GD")
    few = method != "1SAM" or network.startswith(BESIDE)
    many = setting.scattered if network == "layernorm" else setting.seeds
    stages, seeds = setting.stages[name], setting.fewer if few else many
    epochs = sum(stage.epochs for stage in stages)
    return DescentTask(
        name=name,
        cost=seeds * epochs * _seconds_of_an_epoch(network, method, width),
        method=METHODS[method],
        data=data,
        model=f"shallow:{kind},width={width}",
        loss=loss,
        stages=stages,
        seeds=tuple(range(seed, seed + seeds)),
        batch=None if full_batch else 1,
    )


def _seconds_of_an_epoch(network: str, method: str, width: int) -> float:
    """Roughly, on one core."""
    if method in ("SAM", "GD"):
        return width * (7e-6 if method == "SAM" else 3e-6)
    per_neuron = {"batchnorm": 3.5e-5, "softplus": 1.4e-6, "three-layers": 1e-5}.get(network, 1.2e-6)
    return width * per_neuron


def own_tasks(data: str, model: str, loss: str, lr: float, steps: int, seeds: Sequence[int]) -> list[Task]:
    """One network by plain SGD and by SAM at several radii, and its weights rescaled without changing the function."""
    tasks: list[Task] = []
    for optimizer in ("sgd", *(f"sam:rho={rho:g}" for rho in RADII)):
        for seed in seeds:
            config = RunConfig(
                data=data,
                model=model,
                loss=loss,
                optimizer=optimizer,
                lr=lr,
                batch=50,
                steps=steps,
                every=max(1, steps // 10),
                measures=OWN_MEASURES,
                seed=seed,
                checkpoint_every=max(1, steps // 4),
                threads=1,
                path="kept",
            )
            label = optimizer.replace("sam:rho=", "SAM").replace("sgd", "SGD")
            tasks.append(TrainTask(f"own-{label}-seed{seed}", config, 1e-3 * steps * (1 + (label != "SGD"))))
    measures = ("loss", "sharpness", "hessian_trace", "worst_case_sharpness")
    plain = RunConfig(
        data=data,
        model=model,
        loss=loss,
        lr=lr,
        steps=max(50, steps // 10),
        measures=measures,
        seed=seeds[0],
        threads=1,
        path="kept",
    )
    return [*tasks, RescalingTask("own-rescaled", plain, 3.0)]
