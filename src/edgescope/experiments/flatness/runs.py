"""The runs of the study `flatness`: presets quick and full, and the paper's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgescope.experiments.flatness.constructions import ConstructionsTask
from edgescope.experiments.flatness.descents import SeedsTask, Stage
from edgescope.experiments.flatness.sample_sizes import SampleSizesTask
from edgescope.experiments.preset import Preset
from edgescope.experiments.tradeoff.rescaling_task import RescalingTask
from edgescope.sweep import Task, TrainTask
from edgescope.training import RunConfig


@dataclass(frozen=True)
class NetworkSpec:
    """Data, network and loss of some runs."""

    data: str
    model: str
    loss: str = "squared"


NETWORKS = {
    "no-bias": NetworkSpec("xor", "architecture=no-bias"),
    "bias": NetworkSpec("xor", "architecture=bias"),
    "bias-narrow": NetworkSpec("xor", "architecture=bias"),
    "batchnorm": NetworkSpec("xor", "architecture=batchnorm"),
    "layernorm": NetworkSpec("xor", "architecture=layernorm,first=0.01"),
    "softplus": NetworkSpec("xor", "architecture=bias,activation=softplus"),
    "logistic": NetworkSpec("xor", "architecture=bias", "logistic:smoothing=0.2"),
    "three-layers": NetworkSpec("xor", "architecture=bias,depth=3"),
    "ball-no-bias": NetworkSpec("ball", "architecture=no-bias"),
    "ball-bias": NetworkSpec("ball", "architecture=bias"),
}
"""By the tag ``network``."""

METHODS = {
    "1SAM": "1-SAM",
    "noise": "label-noise SGD",
    "SAM": "full-batch SAM",
    "GD": "gradient descent, weight decay",
    "SGD": "SGD, weight decay",
}
"""What the tag ``method`` stands for."""

FULL_BATCH = ("SAM", "GD")

WIDTH, SEEDS = 500, 3
"""Of all networks and runs but those that a preset names."""

RADII = (0.05, 0.1, 0.2)
"""Of SAM on the user's own network."""

Stages = dict[tuple[str, str], tuple[Stage, ...]]
"""The stages of every run, by network and method."""


@dataclass(frozen=True)
class FlatnessSettings:
    """What a preset runs; ``narrow`` are the widths of the costly networks (batch normalisation, three layers), and
    ``scattered`` the seeds of single-sample SAM with layer normalisation, which differ most about its claim."""

    narrow: dict[str, int]
    stages: Stages
    scattered: int
    dims: tuple[int, ...]
    shares: tuple[float, ...]
    updates: int
    user_steps: int


def _stages(epochs: int, full_batch: int) -> Stages:
    """The paper's rates and radii where it has the run, for ``epochs`` in the place of its 1e5, and ``full_batch``
    steps of full-batch methods. Rates, radii and noise of runs that it does not have are ours, and so are the second
    radius with batch norm and the rate of gradient descent, ten times its own: the same flow, in a tenth of the steps.
    """
    half, fifth, tenth, batch = epochs // 2, epochs // 5, epochs // 10, full_batch // 2
    return {
        ("no-bias", "1SAM"): (Stage(half, 0.01, 0.05),),
        ("bias", "1SAM"): (Stage(epochs, 0.01, 0.05), Stage(half, 0.01, 0.1)),
        ("bias-narrow", "1SAM"): (Stage(half, 0.01, 0.05),),
        ("batchnorm", "1SAM"): (Stage(tenth * 6 // 10, 0.005, 0.1), Stage(tenth, 0.005, 0.3)),
        ("layernorm", "1SAM"): (Stage(half, 0.1, 0.1),),
        ("no-bias", "GD"): (Stage(4 * full_batch // 3, 0.03, decay=0.05),),
        ("bias", "GD"): (Stage(2 * full_batch // 3, 0.1, decay=0.05),),
        ("no-bias", "noise"): (Stage(half, 0.01, sigma=0.3),),
        ("bias", "noise"): (Stage(half, 0.01, sigma=0.3),),
        ("batchnorm", "noise"): (Stage(tenth, 0.005, sigma=0.3),),
        ("layernorm", "noise"): (Stage(half, 0.1, sigma=0.3),),
        ("no-bias", "SAM"): (Stage(batch, 0.03, 0.5),),
        ("bias", "SAM"): (Stage(batch, 0.03, 0.5),),
        ("batchnorm", "SAM"): (Stage(batch, 0.03, 0.5),),
        ("layernorm", "SAM"): (Stage(batch, 0.1, 0.5),),
        ("softplus", "1SAM"): (Stage(fifth, 5e-4, 0.05), Stage(fifth, 0.001, 0.1), Stage(tenth // 10, 0.005, 1.0)),
        ("softplus", "SGD"): (Stage(2 * fifth, 0.001, decay=0.05),),
        ("logistic", "1SAM"): (Stage(2 * fifth, 0.1, 0.2),),
        ("logistic", "SGD"): (Stage(2 * fifth, 0.01, decay=0.05),),
        ("three-layers", "1SAM"): (Stage(fifth, 0.01, 0.05),),
        ("three-layers", "SGD"): (Stage(fifth, 0.01, decay=0.05),),
        ("ball-no-bias", "1SAM"): (Stage(fifth, 0.01, 0.2),),
        ("ball-bias", "1SAM"): (Stage(fifth, 0.01, 0.2),),
    }


QUICK = FlatnessSettings(
    narrow={"batchnorm": 40, "three-layers": 80, "bias-narrow": 100},
    stages=_stages(10_000, 3_000),
    scattered=3,
    dims=(10, 20, 30),
    shares=(0.25, 0.5, 0.75, 1.0, 1.5),
    updates=120_000,
    user_steps=1000,
)

FULL = FlatnessSettings(
    narrow={"batchnorm": 100, "three-layers": 100, "bias-narrow": 100},
    stages=_stages(150_000, 30_000),
    scattered=8,
    dims=(10, 20, 30, 40),
    shares=(0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5),
    updates=600_000,
    user_steps=5000,
)

_PAPER_STAGES: Stages = {
    ("no-bias", "GD"): (Stage(100_000, 0.01, decay=0.05),),
    ("no-bias", "1SAM"): (Stage(100_000, 0.01, 0.05),),
    ("batchnorm", "1SAM"): (Stage(100_000, 0.005, 0.1), Stage(100_000, 0.003, 1.0)),
    ("bias", "GD"): (Stage(100_000, 0.01, decay=0.05),),
    ("bias", "1SAM"): (Stage(200_000, 0.01, 0.05), Stage(400_000, 0.01, 0.1)),
    ("layernorm", "1SAM"): (Stage(100_000, 0.1, 0.1),),
    ("softplus", "SGD"): (Stage(100_000, 0.001, decay=0.05),),
    ("softplus", "1SAM"): (Stage(100_000, 5e-4, 0.05), Stage(100_000, 0.001, 0.1), Stage(5_000, 0.005, 1.0)),
    ("logistic", "SGD"): (Stage(100_000, 0.01, decay=0.05),),
    ("logistic", "1SAM"): (Stage(100_000, 0.1, 0.2),),
    ("three-layers", "SGD"): (Stage(100_000, 0.01, decay=0.05),),
    ("three-layers", "1SAM"): (Stage(100_000, 0.01, 0.05),),
    ("ball-no-bias", "1SAM"): (Stage(100_000, 0.01, 0.2),),
    ("ball-bias", "1SAM"): (Stage(100_000, 0.01, 0.2),),
}

PAPER = replace(FULL, narrow={"bias-narrow": 100}, stages=FULL.stages | _PAPER_STAGES, scattered=SEEDS)

SETTINGS: dict[Preset, FlatnessSettings] = {"quick": QUICK, "full": FULL, "paper": PAPER}

UNKNOWN = (
    "Known of the paper's runs: 500 neurons, xor in 30 dimensions with 100 samples, |x₁| − |x₂| in a ball of 10 "
    "dimensions, learning rates, radii, weight decay, batch sizes and epochs of its figures 1 to 7, 9 and 11.",
    "Not known: how weights begin, but for the first layer divided by 100 with layer norm; here as PyTorch's linear "
    "layers do. With factors of batch norm that begin at 1 its learning rate diverges at this width.",
    "Not known: whether weight decay with softplus, logistic loss and three layers ran by single samples, as its table "
    "of learning rates says, or by gradient descent, as its captions say; here by single samples.",
    "Not known: seeds; three are run here, for an interval.",
    "Left out: layer norm with a first layer projected to the norm 10 (figure 6b), and the logistic loss without bias "
    "or with norms (figures 8 and 10), which no claim here speaks of.",
    "Not of the paper: label noise, full-batch SAM, the width 100, the sweep over sample sizes and the user's network, "
    "which are those of the preset full.",
)

USER_MEASURES = ("loss", "accuracy", "sharpness@end", "hessian_trace@end", "worst_case_sharpness@end")


def flatness_tasks(preset: Preset, seed: int, data: str, model: str, loss: str, lr: float) -> list[Task]:
    """All runs; ``data``, ``model``, ``loss`` and ``lr`` are those of the user's own network."""
    setting = SETTINGS[preset]
    seeds = tuple(range(seed, seed + SEEDS))
    sweep = [
        SampleSizesTask(
            name=f"samples-d{dim}",
            cost=len(setting.shares) * len(seeds) * setting.updates * 2.7e-6 * (0.4 + dim / 50),
            dim=dim,
            shares=setting.shares,
            steps=setting.updates,
            width=200,
            seeds=seeds,
            tags={"role": "sample-sizes", "dim": str(dim)},
        )
        for dim in setting.dims
    ]
    user = RunConfig(data=data, model=model, loss=loss, lr=lr, steps=setting.user_steps, threads=1, path="kept")
    return [
        *(descent_task(network, method, setting, seed) for network, method in setting.stages),
        *sweep,
        *user_tasks(user, seeds),
        ConstructionsTask("constructions", 5.0, seed, tags={"role": "constructions"}),
    ]


def descent_task(network: str, method: str, setting: FlatnessSettings, seed: int) -> SeedsTask:
    """The run of this method on this network from all its seeds."""
    kind, stages = NETWORKS[network], setting.stages[network, method]
    width = setting.narrow.get(network, WIDTH)
    seeds = setting.scattered if (network, method) == ("layernorm", "1SAM") else SEEDS
    return SeedsTask(
        name=f"{network}-{method}",
        cost=seeds * sum(stage.epochs for stage in stages) * _seconds_of_an_epoch(network, method, width),
        method=METHODS[method],
        data=kind.data,
        model=f"shallow:{kind.model},width={width}",
        loss=kind.loss,
        stages=stages,
        seeds=tuple(range(seed, seed + seeds)),
        batch=None if method in FULL_BATCH else 1,
        tags={"role": "descent", "network": network, "method": method, "loss": kind.loss, "width": str(width)},
    )


def _seconds_of_an_epoch(network: str, method: str, width: int) -> float:
    """Roughly, on one core."""
    if method in FULL_BATCH:
        return width * (7e-6 if method == "SAM" else 3e-6)
    per_neuron = {"batchnorm": 3.5e-5, "softplus": 1.4e-6, "three-layers": 1e-5}.get(network, 1.2e-6)
    return width * per_neuron


def user_tasks(user: RunConfig, seeds: Sequence[int]) -> list[Task]:
    """One network by plain SGD and by SAM at several radii, and its weights rescaled without changing the function."""
    tasks: list[Task] = []
    described = {"data": user.data, "model": user.model, "loss": user.loss}
    for rho in (None, *RADII):
        for seed in seeds:
            config = replace(
                user,
                optimizer="sgd" if rho is None else f"sam:rho={rho:g}",
                batch=50,
                every=max(1, user.steps // 10),
                measures=USER_MEASURES,
                seed=seed,
                checkpoint_every=max(1, user.steps // 4),
            )
            method = {"method": "SGD"} if rho is None else {"method": "SAM", "rho": f"{rho:g}"}
            name = f"own-{''.join(method.values())}-seed{seed}"
            tags = {"role": "user", **method, "seed": str(seed), **described}
            tasks.append(TrainTask(name, config, 1e-3 * user.steps * (1 if rho is None else 2), tags=tags))
    measures = ("loss", "sharpness", "hessian_trace", "worst_case_sharpness")
    plain = replace(user, steps=max(50, user.steps // 10), measures=measures, seed=seeds[0])
    return [*tasks, RescalingTask("own-rescaled", plain, 3.0, tags={"role": "rescaled", **described})]
