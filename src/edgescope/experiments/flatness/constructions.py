"""Networks in closed form beside their bounds: the trace lemma, the least traces, and what the networks know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgescope.data import DATA
from edgescope.experiments.selection import Item
from edgescope.experiments.study_run import StudyRun
from edgescope.linalg import to_matrix
from edgescope.losses import SquaredError, supervised
from edgescope.measures import Reading
from edgescope.models.shallow import Architecture, ShallowNetwork
from edgescope.objective import Objective
from edgescope.objective.modules import thread_count
from edgescope.store import Record
from edgescope.store.record import FILE
from edgescope.sweep import Tagged
from edgescope.theory import relu

MAKERS = {"memorizing": relu.memorizing, "generalizing": relu.generalizing}

NETWORKS: tuple[tuple[Architecture, str], ...] = (
    ("bias", "memorizing"),
    ("bias", "generalizing"),
    ("layernorm", "memorizing"),
    ("layernorm", "generalizing"),
    ("batchnorm", "generalizing"),
    ("no-bias", "generalizing"),
)
"""Architecture and kind of every network of the paper that has a closed form."""

SMALL = 6
"""Dimension of the inputs on which the whole Hessian is formed."""


@dataclass(frozen=True)
class ConstructionsTask(Tagged):
    """Each network on xor in 30 dimensions: trace, bound, residual, error; and its dense Hessian in few dimensions."""

    name: str
    cost: float
    seed: int

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None:
        config = {"data": "xor:dim=30,train=100", "model": "closed forms", "seed": self.seed}
        with (
            thread_count(1),
            Record.create(folder, config=config, overwrite=(folder / FILE).exists(), tags=self.tags) as record,
        ):
            values: dict[str, float] = {}
            for number, (architecture, kind) in enumerate(NETWORKS):
                progress(number / len(NETWORKS), f"{architecture}, {kind}")
                for name, value in self.measured(architecture, kind).items():
                    values[f"{architecture}, {kind}: {name}"] = value
            record.append(0, [Reading("construction", values)])
            record.set_status("finished")

    def measured(self, architecture: Architecture, kind: str) -> dict[str, float]:
        """The figures of one network."""
        source = DATA.build(f"xor:dim=30,train=100,seed={self.seed}")
        data = source.load()
        x, y = data.inputs.double(), data.targets.double()
        network = MAKERS[kind](architecture, x, y)
        return {
            "trace": relu.trace_at_interpolation(network, x),
            "least": relu.minimal_trace(architecture, x, y),
            "residual": float((network(x) - y).detach().abs().max()),
            "error": source.population_error(network).value,  # type: ignore[attr-defined]
            "lemma": self.lemma(architecture, kind),
        }

    def lemma(self, architecture: Architecture, kind: str) -> float:
        """How far the lemma's trace lies from that of the dense Hessian, as a share, in few dimensions."""
        data = DATA.build(f"xor:dim={SMALL},train=24,seed={self.seed}").load()
        both = torch.unique(torch.cat([data.inputs, data.targets], 1).double(), dim=0)
        network = MAKERS[kind](architecture, both[:, :-1], both[:, -1])
        return abs(relu.trace_at_interpolation(network, both[:, :-1]) / dense_trace(network, both) - 1)


def dense_trace(network: ShallowNetwork, both: Tensor) -> float:
    """The trace of the whole Hessian of the squared loss on rows (inputs, target)."""
    batch = both[:, :-1], both[:, -1:]
    objective = Objective(network, supervised(SquaredError()), batch, path="rebuilt", threads=1, check=False)
    return float(to_matrix(objective.operator()).trace())


Construction = dict[str, float]
"""What was computed of a network in closed form, by name."""


def constructions(run: StudyRun) -> Sequence[Item[Construction]]:
    """Each network of the task, with the least trace "attained" by any known network; its kind is a factor."""
    found: dict[str, Construction] = {}
    for part, value in run.record.table().select("part", "value").drop_nulls().iter_rows():
        name, _, figure = part.partition(": ")
        found.setdefault(name, {})[figure] = value
    for name, values in found.items():
        # Without bias the best network known, and the least on the whole hypercube, has sqrt(2) times the bound.
        values["attained"] = values["least"] * (np.sqrt(2) if name.startswith("no-bias") else 1)
    return [Item(name, values, {"kind": name.partition(", ")[2]}) for name, values in found.items()]
