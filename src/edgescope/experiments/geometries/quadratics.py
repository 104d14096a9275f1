"""Descent on positive definite quadratics, just below and just above the rate at which it must diverge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.experiments.selection import Item
from edgescope.experiments.study_run import StudyRun
from edgescope.experiments.task_record import open_record
from edgescope.geometry import Geometry, as_geometry
from edgescope.linalg import from_matrix
from edgescope.measures import Reading
from edgescope.sharpness import generalized_sharpness
from edgescope.sweep import Tagged

SHAPES = ((4, 3), (4,), (2, 4), (2,))
"""Two layers with their biases: 26 variables."""

GEOMETRIES = {
    "Euclidean": "euclidean",
    "diagonal": "diagonal:preconditioner=log-uniform",
    "Linf": "linf",
    "blocks": "blocks",
    "spectral": "spectral",
}
MARGIN = 0.02
"""How far the learning rate lies below and above 2/S, as a share of it."""

STEPS = 300


@dataclass(frozen=True)
class QuadraticsTask(Tagged):
    """Descent on w'Hw/2 in every geometry, recorded at every step; ``draws`` random H, seeded by ``seed``.

    With eta = 2 (1 + MARGIN) / lower, from the maximiser of S, part "above/GEOMETRY/DRAW" is the norm of w over that of
    the start, and "line/..." what |1 - eta S|^t predicts. With eta = 2 (1 - MARGIN) / upper, from a random start,
    "below/..." is the loss over that of the start. S lies between "lower/..." and "upper/...", given at step 0.
    """

    name: str
    seed: int
    draws: int = 3
    cost: float = 1.0

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None:
        config = {"data": f"{self.draws} random quadratics of {sum(map(_size, SHAPES))} variables", "seed": self.seed}
        with open_record(folder, config, self.tags) as record:
            tables = {
                f"{name}/{draw}": _followed(random_form(1000 * self.seed + draw), as_geometry(spec).bind(SHAPES))
                for name, spec in GEOMETRIES.items()
                for draw in range(self.draws)
            }
            for step in range(STEPS + 1):
                values = {f"{part}/{run}": x for run, of in tables.items() for part, x in next(of).items()}
                record.append(step, [Reading("quadratic", values)])
                progress((step + 1) / (STEPS + 1), f"quadratics, step {step}")
            record.set_info("steps", STEPS)
            record.set_status("finished")


def random_form(seed: int) -> Float[Tensor, "P P"]:
    """A random positive definite matrix with eigenvalues from 0.5 to about 4.5."""
    size = sum(map(_size, SHAPES))
    draw = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return draw @ draw.T / size + 0.5 * torch.eye(size, dtype=torch.float64)


def _followed(form: Float[Tensor, "P P"], geometry: Geometry) -> Iterator[dict[str, float]]:
    found = generalized_sharpness(from_matrix(form, SHAPES), geometry, restarts=16, iterations=500, tol=1e-13)
    above, below = 2 * (1 + MARGIN) / found.lower, 2 * (1 - MARGIN) / found.upper
    on_line = found.direction
    generator = torch.Generator().manual_seed(1)
    anywhere = torch.randn(form.shape[0], generator=generator, dtype=torch.float64)
    first_norm, first_loss = float(geometry.norm(on_line)), float(anywhere @ form @ anywhere)
    ends = {"lower": found.lower, "upper": found.upper}
    for step in range(STEPS + 1):
        yield ends | {
            "above": float(geometry.norm(on_line)) / first_norm,
            "line": abs(1 - above * found.lower) ** step,
            "below": float(anywhere @ form @ anywhere) / first_loss,
        }
        ends = {}
        on_line = on_line - above * geometry.descent(form @ on_line)
        anywhere = anywhere - below * geometry.descent(form @ anywhere)


def _size(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


@dataclass(frozen=True, eq=False)
class QuadraticRun:
    """Descent on one quadratic, just above and just below 2/S: norms and losses by step, over those of the start."""

    above: Float[np.ndarray, " n"]
    line: Float[np.ndarray, " n"]
    below: Float[np.ndarray, " n"]


def quadratic_runs(run: StudyRun) -> list[Item[QuadraticRun]]:
    """Every geometry and draw of a record of :class:`QuadraticsTask`."""
    table = run.record.table().filter(measure="quadratic").drop_nulls("value")
    names = sorted({part.partition("/")[2] for part in table["part"]})
    found = []
    for name in names:
        series = (run.record.series("quadratic", f"{kind}/{name}")[1] for kind in ("above", "line", "below"))
        geometry, _, draw = name.partition("/")
        found.append(Item(f"{geometry}, draw {draw}", QuadraticRun(*series), {"geometry": geometry}))
    return found
