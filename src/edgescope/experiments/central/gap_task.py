"""A task that trains by SGD on mini-batches, and measures how far below 2/η the sharpness stays, and why."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from edgescope.experiments.central.gap_terms import gap_reading
from edgescope.experiments.task_record import open_record
from edgescope.objective.modules import thread_count
from edgescope.progress import Progress
from edgescope.store import Checkpoint, Record, latest_checkpoint, pack_state, save_checkpoint, unpack_state
from edgescope.store.record import ENDED
from edgescope.sweep import PlannedRun, Tagged
from edgescope.training import Parts, RunConfig


@dataclass(frozen=True)
class GapTask(Tagged):
    """SGD on batches of ``config.batch`` samples, each drawn without replacement from all; None is gradient descent.

    Batches of different steps are independent. From step ``first`` on there is a reading ``sharpness_gap`` at the mean
    of every ``window`` iterates: "measured" is 2/η - S, and beside it are the terms of the formula that predicts it.
    """

    name: str
    cost: float
    config: RunConfig
    first: int
    window: int = 25

    def planned_runs(self) -> list[PlannedRun]:
        return [PlannedRun(self.config, self.config.steps, note="without the terms of the formula")]

    @property
    def expected_seconds(self) -> float:
        return self.cost

    def run(self, folder: Path, progress: Progress) -> None:
        """Train; where an earlier call was interrupted, on from its last checkpoint."""
        config = self.config.as_dict()
        with (
            thread_count(1),
            open_record(folder, config, self.tags) as record,
        ):
            if record.status not in ENDED:
                _GapRun(self, record, latest_checkpoint(folder)).run(progress)


class _GapRun:
    def __init__(self, task: GapTask, record: Record, checkpoint: Checkpoint | None) -> None:
        self.task, self.record, self.config = task, record, task.config
        self.began, self.seconds = time.perf_counter(), float(record.info.get("seconds", 0.0))
        # Batches are drawn here, not in the order of epochs: those of one epoch would be negatively correlated.
        self.parts = Parts(task.config)
        self.objective = self.parts.objective(
            self.parts.samples, "eval", path=self.config.path or "kept", threads=self.config.threads or 1
        )
        self.generator = torch.Generator().manual_seed(self.config.seed)
        self.step = 0
        self.sum = torch.zeros_like(self.objective.parameters())
        if checkpoint is not None:
            self._load(checkpoint)
        record.remove_after(self.step)

    def run(self, progress: Progress) -> None:
        task, record = self.task, self.record
        steps = self.config.steps
        while self.step < steps:
            loss = self._advance()
            if not math.isfinite(loss):
                record.note(self.step, "diverged", "the loss of a mini-batch is not finite")
                record.set_status("diverged")
                break
            into = self.step - task.first
            if into > 0 and into % task.window == 0:
                mean = self.sum / task.window
                reading = gap_reading(self.objective, self.parts.optimizer, mean, self.config.batch)
                record.append(self.step, [reading])
                self.sum.zero_()
                self._save()
            progress(self.step / steps, f"step {self.step}, loss of a mini-batch {loss:.4g}")
        record.set_info("steps", self.step)
        record.set_info("seconds", self._elapsed())
        if record.status not in ENDED:
            record.set_status("finished")

    def _advance(self) -> float:
        """One step of SGD; returns the loss of its mini-batch."""
        inputs, targets = self.parts.samples
        batch = (inputs, targets)
        if self.config.batch is not None:
            chosen = torch.randperm(len(inputs), generator=self.generator, device="cpu")[: self.config.batch]
            batch = (inputs[chosen.to(inputs.device)], targets[chosen.to(inputs.device)])
        self.parts.optimizer.zero_grad()
        loss = self.parts.loss_fn(self.parts.model, batch)
        loss.backward()
        self.parts.optimizer.step()
        self.step += 1
        if self.step > self.task.first:
            self.sum += self.objective.parameters()
        return float(loss.detach())

    def _elapsed(self) -> float:
        return self.seconds + time.perf_counter() - self.began

    def _save(self) -> None:
        self.objective.release()
        state = {
            "model": self.parts.model.state_dict(),
            "optimizer": self.parts.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
        }
        tensors, meta = pack_state("run", state)
        save_checkpoint(self.record.folder, self.step, tensors, meta)
        self.record.set_info("seconds", self._elapsed())

    def _load(self, checkpoint: Checkpoint) -> None:
        state = unpack_state("run", checkpoint.tensors, checkpoint.meta)
        self.parts.model.load_state_dict(state["model"])
        self.parts.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.step = state["step"]
