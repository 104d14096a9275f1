"""What the study `phases` runs: quick, full, and those of the paper."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edgescope.experiments.phases.addition import PARTS, AdditionSettings, AdditionTask
from edgescope.experiments.phases.batch_traps import BiasesTask, TrapTask, Trial
from edgescope.experiments.phases.coefficient_sweep import CoefficientSweepTask, SweptNetwork
from edgescope.experiments.phases.decay_problems import image_problems
from edgescope.experiments.phases.decay_trials import DecayTrialsTask
from edgescope.experiments.phases.escape_task import EscapeTask, Noise
from edgescope.experiments.phases.few_samples import Sparse, SparseTask
from edgescope.experiments.phases.linear_paths import LINEAR_PATHS, LinearPathsTask
from edgescope.experiments.phases.linear_schedules import LinearSchedulesTask, ScheduledNetworks
from edgescope.experiments.phases.network_sweeps import NetworkSettings, NetworksTask, Swept
from edgescope.experiments.phases.plateaus import DwellTask, PlateauTask
from edgescope.experiments.phases.stages import StagedTask
from edgescope.experiments.phases.states import MODE_SETS, StatesTask
from edgescope.experiments.phases.sweeps import FASTER, NOISY, DecaySweep, SamplesTask, SweepTask
from edgescope.experiments.preset import Preset
from edgescope.phases.chain_options import ChainOptions
from edgescope.sweep import Task

KRAMERS = (0.0075, 0.006, 0.005, 0.0042, 0.0036, 0.0031, 0.0027, 0.0024, 0.0021)
NARROW = (0.0025, 0.0021, 0.0018, 0.0016, 0.0014, 0.0012, 0.0011)
WIDE = (0.0014, 0.0012, 0.001, 0.0009, 0.0008, 0.00075, 0.0007)
MELTED = (0.0014, 0.001, 0.0008, 0.00065)
BATCHES = (4, 5, 6, 8, 10, 12)
RELEASED = (0.32, 0.25, 0.03)
HELD = (200, 250, 290, 300, 350, 3000)
SWEPT_NETWORKS: Final = {
    "narrow": SweptNetwork((3, 2, 2, 3), (1.0, 0.6)),
    "wide": SweptNetwork((2, 4, 4, 2), (1.0, 0.6)),
    "of the paper": SweptNetwork((2, 10, 10, 2), (0.9, 0.8)),
}
"""The networks along whose sweeps learning coefficients are sampled. By its closed form that of what they compute falls
by 1 with each mode of the narrow one, and is the same at every rank in the others."""

CHAINS: Final = ChainOptions(n=1000, gamma=1.0, chains=32, times=4.0, burn_in=2.0)
SHORT_CHAINS: Final = ChainOptions(n=200, gamma=2.0, chains=32, times=2.5, burn_in=1.5)
"""Those of the preset quick. Many chains of a small network cost little more than one, so that they may be short."""

SWEPT = tuple(float(f"{d:.3g}") for d in np.geomspace(1e-5, 3e-3, 13))


@dataclass(frozen=True)
class CoefficientSettings:
    """The ``networks`` whose learning coefficients are sampled, by chains with these options.

    On the way up at ``each`` decays of every rank, on the way down at the ``down`` lowest, and for the loss without
    decay at the last ``without`` decays of the highest rank.
    """

    networks: tuple[str, ...]
    chains: ChainOptions
    each: int
    down: int
    without: int


@dataclass(frozen=True)
class PhasesSettings:
    """What a preset runs; ``dwell`` are the steps of a sweep at each decay, ``replicas`` the networks of each level of
    noise, ``paired`` those that compare learning rates, ``sparse`` and ``noisy`` the draws of few samples,
    ``scheduled`` the linear networks of each schedule of decay, ``trials`` the seeds of the others (0: none)."""

    decays: int
    dwell: int
    states: int
    draws: int
    chains: int
    replicas: int
    paired: int
    narrow: tuple[float, ...]
    wide: tuple[float, ...]
    max_steps: int
    batches: tuple[int, ...]
    trapped: int
    epochs: int
    biased: int
    biased_steps: int
    staged: int
    sparse: int
    noisy: int
    plateau: tuple[float, ...]
    coefficients: CoefficientSettings
    scheduled: int
    trials: int
    networks: NetworkSettings
    samples: int
    width: int
    addition: AdditionSettings


QUICK = PhasesSettings(
    decays=60, dwell=1500, states=24, draws=20, chains=1000, replicas=40, paired=320, narrow=NARROW, wide=WIDE,
    max_steps=300_000, batches=BATCHES, trapped=20, epochs=3500, biased=3, biased_steps=2400, staged=80, sparse=40,
    noisy=8, plateau=(0.1, 0.03, 0.01), coefficients=CoefficientSettings(("narrow",), SHORT_CHAINS, 3, 1, 1),
    scheduled=40, trials=0, samples=200, width=16,
    networks=NetworkSettings(decays=8, steps=150, settle=600, refine=1, replicas=4, escape_steps=2400),
    addition=AdditionSettings(
        decays=(1e-4, 2e-4, 4e-4), steps=6000, swept=SWEPT[::2], sweep_steps=500, settle=1500, path_steps=60, refine=0,
    ),
)  # fmt: skip
FULL = PhasesSettings(
    decays=120, dwell=6000, states=48, draws=100, chains=3000, replicas=100, paired=1000, narrow=(*NARROW, 0.001),
    wide=(*WIDE, 0.00065), max_steps=2_000_000, batches=(*BATCHES, 14), trapped=50, epochs=20_000, biased=20,
    biased_steps=40_000, staged=80, sparse=60, noisy=24, plateau=(0.1, 0.03, 0.01, 0.003),
    coefficients=CoefficientSettings(("narrow", "wide"), CHAINS, 4, 1, 2), scheduled=200, trials=5, samples=500,
    width=24,
    networks=NetworkSettings(
        decays=16, steps=1000, settle=4000, refine=3, replicas=12, escape_steps=10_000, path_steps=400,
    ),
    addition=AdditionSettings(
        decays=(1e-5, 3e-5, 5e-5, 1e-4, 2e-4, 3e-4, 4e-4), steps=16_000, swept=SWEPT, sweep_steps=4000, settle=6000,
        path_steps=300, refine=2,
    ),
)  # fmt: skip


def phase_tasks(preset: Preset, seed: int) -> list[Task]:
    """All tasks of the study; their costs are seconds of one core, of the quick ones for quick and full."""
    if preset == "paper":
        beside = CoefficientSettings(("of the paper",), replace(CHAINS, n=512), 4, 1, 2)
        return [*paper_tasks(seed), *_coefficients(beside, seed)]
    return simulated_tasks(QUICK if preset == "quick" else FULL, seed)


def simulated_tasks(s: PhasesSettings, seed: int) -> list[Task]:
    """The tasks of the presets that take minutes."""
    return [
        *_states(s, seed), *_escapes(s, seed), *_traps(s, seed), *_curves(s, seed), *_schedules(s, seed),
        *_coefficients(s.coefficients, seed),
        LinearPathsTask("paths", 6, seed, LINEAR_PATHS, tags={"kind": "paths"}), *_networks(s, seed),
        AdditionTask("addition", 50, seed, PARTS, 31, s.addition, tags={"kind": "addition"}),
    ]  # fmt: skip


def _states(s: PhasesSettings, seed: int) -> list[Task]:
    noisy = (DecaySweep(NOISY, 3, s.dwell, temperature=3e-4), DecaySweep(FASTER, 3, s.dwell // 5, temperature=3e-4))
    sweeps = (
        DecaySweep("descent", 3, s.dwell),
        DecaySweep("descent, depth 4", 4, s.dwell),
        DecaySweep("jitter, depth 2", 2, s.dwell, jitter=0.01),
        DecaySweep("jitter", 3, s.dwell, jitter=0.01),
        *8 * noisy,
    )
    return [
        SweepTask("sweeps", 12, seed, sweeps, s.decays, tags={"kind": "sweeps"}),
        StatesTask("states", 11, seed, MODE_SETS, s.states, steps=20_000, tags={"kind": "states"}),
        SamplesTask("samples", 2, seed, tuple(range(s.draws)), steps=2000, tags={"kind": "samples"}),
    ]


def _escapes(s: PhasesSettings, seed: int) -> list[Task]:
    def tags(series: str, noise: str, width: int | None) -> dict[str, str]:
        model = "chain of 3" if width is None else f"width {width}"
        return {"kind": "escapes", "series": series, "noise": noise, "model": model}

    def up(name: str, cost: float, series: str, of: tuple[float, ...], width: int, decay: float) -> Task:
        return EscapeTask(
            name, cost, seed, tuple(Noise(s.max_steps, temperature=t) for t in of), signal=0.8, decay=decay, level=0.3,
            replicas=s.replicas, width=width, tags=tags(series, "Langevin", width),
        )  # fmt: skip

    def down(name: str, cost: float, series: str, of: list[Noise], replicas: int, width: int | None) -> Task:
        return EscapeTask(
            name, cost, seed, tuple(of), signal=0.8, decay=0.33, level=0.03, down=True, replicas=replicas, width=width,
            tags=tags(series, "batches", width),
        )  # fmt: skip

    batches = [Noise(s.max_steps, batch=b) for b in s.batches]
    same = [Noise(s.max_steps, batch=b, lr=lr) for b, lr in ((4, 0.05), (8, 0.1), (8, 0.05), (16, 0.1))]
    return [
        EscapeTask(
            "kramers", 20, seed, tuple(Noise(10**8, temperature=t) for t in KRAMERS), signal=1.0, decay=0.3,
            level=0.342, replicas=s.chains, tags=tags("chain", "Langevin", None),
        ),
        up("langevin-h4", 6, "cold", s.narrow, 4, 0.25),
        up("langevin-h10", 10, "cold", s.wide, 10, 0.28),
        up("langevin-melted", 1, "melted", MELTED, 10, 0.2),
        down("batches-chain", 10, "down", batches, s.chains // 3, None),
        down("batches-h10", 16, "down", batches, s.replicas, 10),
        down("batches-rates", 16, "rates", same, s.paired, 10),
    ]  # fmt: skip


def _traps(s: PhasesSettings, seed: int) -> list[Task]:
    trials = [Trial(2000, decay, samples) for samples in ("fresh", "whitened") for decay in RELEASED]
    trials += [Trial(held, 0.03, "fresh") for held in (30, 40)]
    return [
        TrapTask("null", 34, seed, tuple(trials), s.epochs, s.trapped, tags={"kind": "traps", "series": "protocol"}),
        BiasesTask("biases", 6, seed, (False, True), s.biased, 1200, s.biased_steps, tags={"kind": "biases"}),
    ]


def _curves(s: PhasesSettings, seed: int) -> list[Task]:
    releases = [Sparse(held, 0.0025, 10_000, s.sparse) for held in HELD]
    releases += [Sparse(3000, 0.15, 100_000, s.noisy, 1.5e-4), Sparse(3000, 0.10, 200_000, s.noisy, 4e-5)]
    return [
        DwellTask("dwell", 1, seed, (0,), tags={"kind": "dwell"}),
        StagedTask("staged", 24, seed, (0,), s.staged, steps=100_000, tags={"kind": "staged"}),
        PlateauTask("plateau", 1, seed, s.plateau, tags={"kind": "plateau"}),
        SparseTask("sparse", 12, seed, tuple(releases), tags={"kind": "sparse"}),
    ]


def _schedules(s: PhasesSettings, seed: int) -> list[Task]:
    learn = [ScheduledNetworks(depth, "learn", ratio) for depth in (3, 4) for ratio in (0.5, 1.1, 1.5)]
    freed = [ScheduledNetworks(3, "dip"), ScheduledNetworks(4, "dip"), ScheduledNetworks(3, "noise")]
    tasks: list[Task] = [
        LinearSchedulesTask(
            "linear-schedules", 12, seed, (*learn, *freed), s.scheduled, random=200, noise_steps=30_000,
            tags={"kind": "linear schedules"},
        )
    ]  # fmt: skip
    if s.trials:
        tags = {"kind": "decay trials"}
        tasks.append(DecayTrialsTask("decay-trials", 60, seed, image_problems(), s.trials, tags=tags))
    return tasks


def _coefficients(s: CoefficientSettings, seed: int) -> list[Task]:
    return [
        CoefficientSweepTask(
            f"coefficients-{name.replace(' ', '-')}", 25, seed, SWEPT_NETWORKS[name].points(s.each, s.without, s.down),
            SWEPT_NETWORKS[name], s.chains, s.each, tags={"kind": "coefficients", "network": name},
        )
        for name in s.networks
    ]  # fmt: skip


def _networks(s: PhasesSettings, seed: int) -> list[Task]:
    """Networks with tanh and ReLU on two sets of images."""
    images = {"digits": "digits", "fashion": "fashion-5k:pool=4"}
    kinds = [(name, data, kind) for name, data in images.items() for kind in ("tanh", "relu")]
    return [
        NetworksTask(
            f"network-{number}", 20, seed,
            (Swept(f"{name}, {kind}", data, f"mlp:widths={s.width}x{s.width},activation={kind}", s.width, s.samples),),
            s.networks, tags={"kind": "network", "data": name, "activation": kind},
        )
        for number, (name, data, kind) in enumerate(kinds)
    ]  # fmt: skip


def paper_tasks(seed: int, runs: int = 50, epochs: int = 20_000) -> list[Task]:
    """The paper's own protocol; ``runs`` of each kind, released for so many ``epochs`` of 8 batches of 64."""

    def trap(name: str, at: float, rank: int, series: str = "protocol", lr: float = 0.08) -> Task:
        trials = (Trial(epochs, 0.32, "drawn"),) * runs  # a draw of its own for each
        tags = {"kind": "traps", "series": series, "trap": f"{at:g}", "lr": f"{lr:g}"}
        return TrapTask(name, 100, seed, trials, epochs, 1, trap=at, rank=rank, lr=lr, random=True, tags=tags)

    releases = tuple(Sparse(held, 0.0025, epochs, runs) for held in HELD)
    return [
        SamplesTask("samples", 30, seed, tuple(range(runs)), steps=20_000, tags={"kind": "samples"}),
        trap("trap-rank-1", 0.361, 1),
        trap("trap-rank-0", 0.43, 0),
        *(trap(f"rate-{lr:g}", 0.361, 1, "rates", lr) for lr in (5e-4, 1e-3, 2e-3, 3e-3, 5e-3)),
        SparseTask("sparse", 60, seed, releases, escaped=1e-3, window=(0.0, np.inf), tags={"kind": "sparse"}),
    ]
