"""The runs of the study `central`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgescope.experiments.central.flow_task import FlowTask
from edgescope.experiments.central.followed_flow import CENTRAL, CORRECTED, MULTIPLIER, STABLE, TWO_POINT
from edgescope.experiments.central.gap_task import GapTask
from edgescope.experiments.preset import Preset
from edgescope.sweep import Task
from edgescope.training import RunConfig

FIRST_SEED = 3
"""Added to the seed of the study: the tolerances of the claims were set after runs on seeds 0 to 2."""

GD, MOMENTUM, RMSPROP = "sgd", "sgd:momentum=0.5", "rmsprop:alpha=0.99,eps=1e-7"
LINF, SIGN = "steepest:geometry=linf", "steepest:geometry=linf,normalized=true"
SPECTRAL = "steepest:geometry=spectral"
METHODS = {"gd": GD, "momentum": MOMENTUM, "rmsprop": RMSPROP, "linf": LINF, "sign": SIGN, "spectral": SPECTRAL}
"""The optimizers by the tag ``method``."""

Flows = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class FlowRun:
    """An optimizer with its flows: on which problem, for how many steps, and from when averages are taken.

    ``start`` and ``average_from`` are those of :class:`FlowTask`, and ``cost`` is in seconds of one core. ``search``
    is the number of steps until which the optimizer has to oscillate, where ``start`` is None.
    """

    method: str
    problem: str
    lr: float
    flows: Flows
    horizon: int
    average_from: int
    cost: float
    start: int | None = 0
    block: int = 50
    every: int = 10
    search: int = 1
    alone: int = 0
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class GapRuns:
    """SGD on a problem, on the full batch and on batches of a half and a quarter of the data."""

    problem: str
    lr: float
    samples: int
    steps: int
    first: int
    cost: float
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class CentralSettings:
    """What differs between the presets: problems (data and model by name) and runs."""

    problems: dict[str, tuple[str, str]]
    flows: tuple[FlowRun, ...]
    gaps: tuple[GapRuns, ...]


TANH = "mlp:widths=32x32,activation=tanh"
DIGITS = ("digits:train=200,test=300", TANH)
FASHION = ("fashion-5k:train=400,test=300,pool=2", TANH)
IN_NORMS: Flows = ((STABLE, 16), (TWO_POINT, 8))
IN_LINF: Flows = (*IN_NORMS, (MULTIPLIER, 4))

QUICK = CentralSettings(
    problems={"digits": DIGITS},
    flows=(
        FlowRun("gd", "digits", 0.4, ((STABLE, 8), (CENTRAL, 2), (CORRECTED, 2)), 1500, 800, 150),
        FlowRun("rmsprop", "digits", 3e-4, ((STABLE, 8), (CENTRAL, 2)), 570, 420, 45, start=30, block=25),
        FlowRun("linf", "digits", 3e-4, IN_LINF, 60, 20, 8, None, 10, 2, 1000, alone=40),
        FlowRun("sign", "digits", 1e-3, IN_NORMS, 60, 20, 8, None, 10, 2, 1000, alone=40),
        FlowRun("spectral", "digits", 0.035, IN_NORMS, 60, 20, 20, None, 10, 2, 1000),
    ),
    gaps=(GapRuns("digits", 0.4, 200, 1500, 700, 10),),
)

FULL = CentralSettings(
    problems={"digits": DIGITS, "fashion": FASHION},
    flows=(
        FlowRun("gd", "digits", 0.4, ((STABLE, 8), (CENTRAL, 4), (CORRECTED, 4)), 1500, 800, 400, seeds=(0, 1)),
        FlowRun("gd", "fashion", 0.14, ((STABLE, 8), (CENTRAL, 4), (CORRECTED, 4)), 1500, 800, 600),
        FlowRun("momentum", "digits", 0.55, ((STABLE, 6), (CENTRAL, 6)), 500, 250, 300, start=100),
        FlowRun("rmsprop", "digits", 3e-4, ((STABLE, 8), (CENTRAL, 2)), 570, 420, 60, 30, 25, seeds=(0, 1)),
        FlowRun("rmsprop", "fashion", 1.5e-4, ((STABLE, 8), (CENTRAL, 2)), 570, 420, 80, 30, 25),
        FlowRun("linf", "digits", 3e-4, IN_LINF, 60, 20, 8, None, 10, 2, 1000, alone=40, seeds=(0, 1)),
        FlowRun("sign", "digits", 1e-3, IN_NORMS, 60, 20, 8, None, 10, 2, 1000, alone=40, seeds=(0, 1)),
        FlowRun("spectral", "digits", 0.035, IN_NORMS, 60, 20, 20, None, 10, 2, 1000, seeds=(0, 1)),
        FlowRun("linf", "fashion", 7e-5, IN_LINF, 60, 20, 20, None, 10, 2, 2000, alone=40),
        FlowRun("sign", "fashion", 5e-4, IN_NORMS, 60, 20, 20, None, 10, 2, 2000, alone=40),
        FlowRun("spectral", "fashion", 0.016, IN_NORMS, 60, 20, 40, None, 10, 2, 2000),
    ),
    gaps=(
        GapRuns("digits", 0.4, 200, 3000, 700, 20, seeds=(0, 1)),
        GapRuns("fashion", 0.14, 400, 3000, 1000, 40),
    ),
)

CIFAR = "cifar10:train=1000,test=1000"
CNN = "cnn:channels=32x32,activation=gelu"

PAPER = CentralSettings(
    problems={"CNN": (CIFAR, CNN)},
    flows=(
        FlowRun("gd", "CNN", 0.02, ((STABLE, 8), (CENTRAL, 4), (CORRECTED, 4)), 4000, 2000, 1e6, every=20),
        FlowRun("rmsprop", "CNN", 2e-5, ((STABLE, 8), (CENTRAL, 4)), 3000, 2000, 1e6, start=50, every=20),
        FlowRun("linf", "CNN", 5e-5, IN_LINF, 60, 20, 1e5, None, 10, 5, 4000, alone=40),
        FlowRun("sign", "CNN", 2e-4, IN_NORMS, 60, 20, 1e5, None, 10, 5, 4000, alone=40),
        FlowRun("spectral", "CNN", 0.01, IN_NORMS, 60, 20, 1e5, None, 10, 5, 4000),
    ),
    gaps=(GapRuns("CNN", 0.02, 1000, 6000, 3000, 1e5),),
)

SETTINGS: dict[Preset, CentralSettings] = {"quick": QUICK, "full": FULL, "paper": PAPER}

UNKNOWN = (
    "Known of the runs of Cohen, Damian et al.: a convolutional and a residual network and a vision transformer on "
    "1,000 images of CIFAR-10 of the first four classes, sequence models on sorting; full batch, smooth activations.",
    "Here: the convolutional network of Cohen et al. 2021 with GELU, and 1,000 images of all ten classes.",
    "Not known: widths, learning rates, β₂, and the number of steps. RMSProp has the learning rate 2e-5; the others "
    "are ours and were not tried.",
    "Known of the runs of Liao et al.: SGD on subsets of CIFAR-10. Not known: sizes, learning rates and batch sizes.",
)


def central_tasks(preset: Preset, seed: int) -> list[Task]:
    """A task for each optimizer, problem and seed of the preset, and for each batch size."""
    settings = SETTINGS[preset]
    tasks: list[Task] = []
    for run in settings.flows:
        tasks += [_flow_task(settings, run, FIRST_SEED + seed + more) for more in run.seeds]
    for gaps in settings.gaps:
        tasks += [task for more in gaps.seeds for task in _gap_tasks(settings, gaps, FIRST_SEED + seed + more)]
    return tasks


def _flow_task(settings: CentralSettings, run: FlowRun, seed: int) -> FlowTask:
    data, model = settings.problems[run.problem]
    config = RunConfig(
        data=data,
        model=model,
        optimizer=METHODS[run.method],
        lr=run.lr,
        steps=run.search if run.start is None else run.start + run.horizon,
        measures=(),
        seed=seed,
        dtype="float64",
        threads=1,
    )
    tags = {"kind": "flows", "method": run.method, "data": run.problem, "lr": f"{run.lr:g}", "seed": str(seed)}
    return FlowTask(
        f"{run.method}-{run.problem}-{seed}",
        run.cost,
        config,
        run.flows,
        run.horizon,
        run.start,
        run.every,
        run.average_from,
        run.block,
        run.alone,
        tags=tags,
    )


def _gap_tasks(settings: CentralSettings, gaps: GapRuns, seed: int) -> Sequence[GapTask]:
    data, model = settings.problems[gaps.problem]
    group = f"{gaps.problem}-{seed}"
    tasks = []
    for name, batch in (("all", None), ("half", gaps.samples // 2), ("quarter", gaps.samples // 4)):
        config = RunConfig(
            data=data,
            model=model,
            lr=gaps.lr,
            steps=gaps.steps,
            batch=batch,
            measures=(),
            seed=seed,
            dtype="float64",
            threads=1,
        )
        tags = {"kind": "gap", "method": "gd" if batch is None else "sgd", "batch": name, "group": group}
        tags |= {"data": gaps.problem, "seed": str(seed)}
        tasks.append(GapTask(f"gap-{group}-{name}", gaps.cost, config, gaps.first, tags=tags))
    return tasks
