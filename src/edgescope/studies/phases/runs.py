"""The runs of the study `phases`, quick and full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgescope.studies.phases.addition import AdditionTask
from edgescope.studies.phases.biases import BiasesTask
from edgescope.studies.phases.curves import DwellTask, PlateauTask, Sparse, SparseTask
from edgescope.studies.phases.escapes import EscapeTask, Level, NullTask, StagedTask
from edgescope.studies.phases.networks import LinearPathsTask, NetworksTask, Swept
from edgescope.studies.phases.sweeps import SamplesTask, StatesTask, Sweep, SweepTask
from edgescope.studies.study import Preset
from edgescope.sweep import Task

KRAMERS = (0.0075, 0.006, 0.005, 0.0042, 0.0036, 0.0031, 0.0027, 0.0024, 0.0021)
NARROW = (0.0025, 0.0021, 0.0018, 0.0016, 0.0014, 0.0012, 0.0011)
WIDE = (0.0014, 0.0012, 0.001, 0.0009, 0.0008, 0.00075, 0.0007)
BATCHES = (4, 5, 6, 8, 10, 12)
RELEASED = (0.32, 0.25, 0.03)
SWEPT = tuple(float(f"{d:.3g}") for d in np.geomspace(1e-5, 3e-3, 13))


@dataclass(frozen=True)
class Setting:
    """What a preset runs; ``dwell`` are the steps of a sweep at each of its ``decays``."""

    decays: int
    dwell: int
    states: int
    draws: int
    chains: int
    nets: int
    coldest: tuple[float, float] | None
    most: int
    batches: tuple[int, ...]
    trapped: int
    epochs: int
    staged: int
    sparse: int
    plateau: tuple[float, ...]
    networks: dict[str, Any]
    samples: int
    width: int
    addition: dict[str, Any]


def networks(samples: int, width: int) -> list[Swept]:
    """Networks with tanh and ReLU on two sets of images."""
    images = {"digits": "digits", "fashion": "fashion-5k:pool=4"}
    return [
        Swept(f"{name}, {kind}", data, f"mlp:widths={width}x{width},activation={kind}", width, samples)
        for name, data in images.items()
        for kind in ("tanh", "relu")
    ]


QUICK = Setting(
    decays=60,
    dwell=1500,
    states=24,
    draws=20,
    chains=300,
    nets=40,
    coldest=None,
    most=300_000,
    batches=BATCHES,
    trapped=20,
    epochs=3500,
    staged=20,
    sparse=8,
    plateau=(0.1, 0.03, 0.01),
    networks={"decays": 8, "steps": 150, "settle": 600, "refine": 1, "replicas": 4, "escape_steps": 2400},
    samples=200,
    width=16,
    addition={
        "decays": (1e-4, 2e-4, 4e-4), "steps": 6000, "swept": SWEPT[::2], "sweep_steps": 500, "settle": 1500,
        "path_steps": 60, "refine": 0,
    },
)  # fmt: skip
FULL = Setting(
    decays=120,
    dwell=6000,
    states=48,
    draws=100,
    chains=1000,
    nets=100,
    coldest=(0.001, 0.00065),
    most=2_000_000,
    batches=(*BATCHES, 14),
    trapped=50,
    epochs=20_000,
    staged=60,
    sparse=24,
    plateau=(0.1, 0.03, 0.01, 0.003),
    networks={
        "decays": 16, "steps": 1000, "settle": 4000, "refine": 3, "replicas": 12, "escape_steps": 10_000,
        "path_steps": 400,
    },
    samples=500,
    width=24,
    addition={
        "decays": (1e-5, 3e-5, 5e-5, 1e-4, 2e-4, 3e-4, 4e-4), "steps": 16_000, "swept": SWEPT, "sweep_steps": 4000,
        "settle": 6000, "path_steps": 300, "refine": 2,
    },
)  # fmt: skip


def phase_tasks(preset: Preset, seed: int) -> list[Task]:
    """All tasks of the study; their costs are seconds of one core, of the quick ones."""
    s = QUICK if preset == "quick" else FULL
    sweeps = (
        Sweep("descent", 3, s.dwell),
        Sweep("descent, depth 4", 4, s.dwell),
        Sweep("jitter, depth 2", 2, s.dwell, jitter=0.01),
        Sweep("jitter", 3, s.dwell, jitter=0.01),
        Sweep("Langevin", 3, s.dwell, temperature=3e-4),
        Sweep("Langevin, 5 times as fast", 3, s.dwell // 5, temperature=3e-4),
    )
    narrow, wide = (
        tuple(Level(s.most, temperature=t) for t in (*of, *((s.coldest[k],) if s.coldest else ())))
        for k, of in enumerate((NARROW, WIDE))
    )
    melted = tuple(Level(s.most, temperature=t) for t in (0.0014, 0.001, 0.0008, 0.00065))
    small = [Level(s.most, batch=b) for b in s.batches]
    same = [Level(s.most, batch=b, lr=lr) for b, lr in ((4, 0.05), (8, 0.1), (8, 0.05), (16, 0.1))]
    down: dict[str, Any] = {"signal": 0.8, "decay": 0.33, "level": 0.03, "down": True}
    trials = [(2000, decay, fixed) for fixed in (False, True) for decay in RELEASED] + [
        (n, 0.03, False) for n in (30, 40)
    ]
    releases = [Sparse(n, 0.0025, 10_000) for n in (200, 250, 290, 300, 350, 3000)]
    releases += [Sparse(3000, 0.15, 100_000, 1.5e-4), Sparse(3000, 0.10, 200_000, 4e-5)]
    return [
        SweepTask("sweeps", 5, seed, sweeps, s.decays),
        StatesTask("states", 11, seed, s.states, steps=20_000),
        SamplesTask("samples", 2, seed, s.draws, steps=2000),
        EscapeTask("kramers", 6, seed, tuple(Level(10**8, temperature=t) for t in KRAMERS), 1.0, 0.3, 0.342, s.chains),
        EscapeTask("langevin-h4", 6, seed, narrow, 0.8, 0.25, 0.3, s.nets, width=4),
        EscapeTask("langevin-h10", 10, seed, wide, 0.8, 0.28, 0.3, s.nets, width=10),
        EscapeTask("langevin-melted", 1, seed, melted, 0.8, 0.2, 0.3, s.nets, width=10),
        EscapeTask("batches-chain", 3, seed, tuple(small), replicas=s.chains // 3, **down),
        EscapeTask("batches-h10", 16, seed, tuple(small), replicas=s.nets, width=10, **down),
        EscapeTask("batches-rates", 4, seed, tuple(same), replicas=2 * s.nets, width=10, **down),
        NullTask("null", 34, seed, tuple(trials), s.epochs, s.trapped),
        BiasesTask("biases", 6, seed, 3 if preset == "quick" else 20, 1200, 2400 if preset == "quick" else 40_000),
        DwellTask("dwell", 1, seed),
        StagedTask("staged", 6, seed, s.staged, steps=100_000),
        PlateauTask("plateau", 1, seed, s.plateau),
        SparseTask("sparse", 8, seed, tuple(releases), s.sparse),
        LinearPathsTask("paths", 6, seed),
        *(
            NetworksTask(f"network-{i}", 20, seed, (n,), **s.networks)
            for i, n in enumerate(networks(s.samples, s.width))
        ),
        AdditionTask("addition", 50, seed, 31, **s.addition),
    ]
