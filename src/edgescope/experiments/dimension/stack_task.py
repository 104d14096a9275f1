"""A row of the grid as one task: networks of one batch size trained together, then measured one by one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.data import DATA
from edgescope.errors import EdgescopeError
from edgescope.experiments.manifest import ManifestEntry
from edgescope.experiments.task_record import open_record
from edgescope.losses import Criterion, accuracy_counts
from edgescope.measures import Reading
from edgescope.measures.persistent_homology import distances_between
from edgescope.objective.modules import thread_count
from edgescope.statistics import persistence
from edgescope.store import Record, latest_checkpoint, pack_state, save_checkpoint, unpack_state
from edgescope.sweep import PlannedRun, Tagged
from edgescope.training import Member, Parts, RunConfig, Stack
from edgescope.training.measured import measured_at

CHECKPOINTS = 4
"""Of the training of a stack, evenly spaced; the last is where its trajectory begins to be kept."""

READINGS = 20
"""Moments of the training at which losses and accuracies are recorded."""


@dataclass(frozen=True)
class StackTask(Tagged):
    """All learning rates and seeds of one batch size. Every cell has a folder and a record of its own in the task's.

    ``measures`` are taken after the last step; of the last ``iterates`` steps the shape of the trajectory is.
    """

    name: str
    cost: float
    data: str
    model: str
    batch: int
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    epochs: int
    iterates: int
    measures: tuple[str, ...]
    device: str | None = None

    def on_device(self, device: str) -> Self:
        return replace(self, device=device)

    def planned_runs(self) -> list[PlannedRun]:
        first = next(iter(self.configurations().values()))
        source = DATA.build(self.data)
        known = source.published_shape()
        samples = known.train if known else len(source.load().inputs)
        note = "networks trained together, which may be faster"
        steps = self.epochs * -(-samples // self.batch)
        # Without stacking's own readings; what is measured is measured at the end.
        measures = tuple(f"{text}@end" for text in self.measures)
        config = replace(first, steps=steps, measures=measures)
        return [PlannedRun(config, steps, len(self.configurations()), note)]

    def configurations(self, samples: int = 1) -> dict[str, RunConfig]:
        """Of each cell, by the name of its folder; for as many steps as ``samples`` training samples make."""
        return {
            f"lr{lr:g}-seed{seed}": RunConfig(
                data=self.data,
                model=self.model,
                loss="cross-entropy",
                optimizer="sgd",
                lr=lr,
                batch=self.batch,
                steps=self.epochs * -(-samples // self.batch),
                measures=self.measures,
                seed=seed,
                threads=1,
                path="kept",
                device=self.device,
            )
            for lr, seed in itertools.product(self.lrs, self.seeds)
        }

    def entries(self) -> list[ManifestEntry]:
        """The networks, in folders below the task's own."""
        cells = self.configurations().items()
        return [
            ManifestEntry(f"{self.name}-{cell}", f"{self.name}/{cell}", self.cell_tags(config))
            for cell, config in cells
        ]

    def cell_tags(self, config: RunConfig) -> dict[str, str]:
        """What tells one network of the stack from the others, beside the tags of the task."""
        own = {"lr": f"{config.lr:g}", "batch": str(config.batch), "seed": str(config.seed)}
        return dict(self.tags) | own

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None:
        with thread_count(1), ExitStack() as closing:
            samples = len(Parts(next(iter(self.configurations().values()))).samples[0])
            cells = [
                Cell(
                    config, closing.enter_context(open_record(folder / name, config.as_dict(), self.cell_tags(config)))
                )
                for name, config in self.configurations(samples).items()
            ]
            if all(cell.ended for cell in cells):
                return
            trained = _Training(self, cells, folder).run(lambda share: progress(0.3 * share, "training"))
            for number, cell in enumerate(cells):
                progress(0.3 + 0.7 * number / len(cells), f"measuring network {number + 1} of {len(cells)}")
                if not cell.ended:
                    cell.measure(trained, number)


@dataclass(frozen=True)
class Trained:
    """A stack after its last step, and its last iterates: parameters and losses of samples, relative to the first."""

    stack: Stack
    initial: Float[Tensor, "M P"]
    iterates: Float[Tensor, "M T P"]
    losses: Float[Tensor, "M T n"]
    seconds: float


class Cell:
    """One network of the grid with its record."""

    def __init__(self, config: RunConfig, record: Record) -> None:
        self.config, self.record, self.parts = config, record, Parts(config)

    @property
    def ended(self) -> bool:
        return self.record.status in ("finished", "diverged")

    def measure(self, trained: Trained, number: int) -> None:
        """All measures of the network as it is after the last step, in one transaction."""
        began, record, steps = time.perf_counter(), self.record, self.config.steps
        w = trained.stack.flat()[number]
        finite = bool(torch.isfinite(w).all())
        if not finite:
            record.append(steps, [], [("diverged", "the parameters are not finite")])
        else:
            readings = measured_at(self.parts, record, w, trained.initial[number], steps)
            record.append(steps, [*readings, _shape(trained, number)])
        record.set_info("seconds", trained.seconds / len(trained.stack.members) + time.perf_counter() - began)
        record.set_status("finished" if finite else "diverged")


def _shape(trained: Trained, number: int) -> Reading:
    """Persistent homology of the last iterates, in both metrics."""
    began = time.perf_counter()
    values: dict[str, float] = {}
    errors: dict[str, float] = {}
    notes: list[str] = []
    for metric, points in (("euclidean", trained.iterates), ("loss", trained.losses)):
        try:
            found = persistence(distances_between(points[number].numpy(), metric))
        except EdgescopeError as error:
            notes.append(str(error))
            continue
        values |= {f"dimension/{metric}": found.dimension, f"lifetime_sum/{metric}": found.lifetime_sum}
        errors[f"dimension/{metric}"] = found.dimension_error
    seconds = time.perf_counter() - began
    return Reading("persistent_homology", values, errors, seconds=seconds, note="; ".join(notes))


class _Training:
    """The training of a stack: resumed from its last checkpoint, up to the end."""

    def __init__(self, task: StackTask, cells: Sequence[Cell], folder: Path) -> None:
        self.cells, self.folder = cells, folder
        first = cells[0].parts
        self.samples, self.tests = first.samples, first.test_samples
        self.criterion = first.loss_fn.criterion
        members = [Member(cell.config.lr, cell.config.seed) for cell in cells]
        self.stack = Stack([c.parts.model for c in cells], first.loss_fn, self.samples, members, task.batch)
        self.steps = cells[0].config.steps
        self.kept_from = max(0, self.steps - task.iterates)
        self.initial = self.stack.flat()

    def run(self, progress: Callable[[float], None]) -> Trained:
        began, stack = time.perf_counter(), self.stack
        before = self._load()
        every, save = max(1, self.steps // READINGS), max(1, self.kept_from // CHECKPOINTS)
        origin: list[Tensor] = []
        iterates: list[Tensor] = []
        losses: list[Tensor] = []
        while stack.steps < self.steps:
            if stack.steps % every == 0:
                self._record()
            stack.step()
            if stack.steps > self.kept_from:
                points = [stack.flat(), each_loss(self.criterion, stack.outputs(self.samples[0]), self.samples[1])]
                origin = origin or points
                # In float32 nearby iterates of large norm would be rounded together; their differences are not.
                for kept, point, first in zip((iterates, losses), points, origin, strict=True):
                    kept.append((point - first).cpu())
            elif stack.steps == self.kept_from or stack.steps % save == 0:
                self._save(before + time.perf_counter() - began)
            progress(stack.steps / self.steps)
        seconds = before + time.perf_counter() - began
        return Trained(stack, self.initial, torch.stack(iterates, 1), torch.stack(losses, 1), seconds)

    def _record(self) -> None:
        readings = {}
        for part, (inputs, targets) in (("train", self.samples), ("test", self.tests)):
            outputs = self.stack.outputs(inputs)
            hits = [accuracy_counts(one, targets)[0] / len(targets) for one in outputs]
            readings[part] = (self.stack.losses((inputs, targets)).tolist(), hits)
        for number, cell in enumerate(self.cells):
            if not cell.ended:
                loss, accuracy = ({part: found[which][number] for part, found in readings.items()} for which in (0, 1))
                cell.record.append(self.stack.steps, [Reading("loss", loss), Reading("accuracy", accuracy)])

    def _save(self, seconds: float) -> None:
        tensors, meta = pack_state("stack", self.stack.state() | {"seconds": seconds})
        save_checkpoint(self.folder, self.stack.steps, tensors, meta)

    def _load(self) -> float:
        checkpoint = latest_checkpoint(self.folder)
        if checkpoint is None:
            return 0.0
        if checkpoint.notice:
            for cell in self.cells:
                cell.record.note(checkpoint.step, "checkpoint", checkpoint.notice)
        state: dict[str, Any] = unpack_state("stack", checkpoint.tensors, checkpoint.meta)
        self.stack.load_state(state)
        return float(state["seconds"])


def each_loss(criterion: Criterion, outputs: Float[Tensor, "M n C"], targets: Tensor) -> Float[Tensor, "M n"]:
    """The loss of every sample for every network."""
    one = torch.func.vmap(lambda output, target: criterion(output[None], target[None]))
    return torch.func.vmap(one, in_dims=(0, None))(outputs, targets)
