"""A task that runs an optimizer and several flows side by side, and records series of all of them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.experiments.central.descent import FullBatchDescent
from edgescope.experiments.central.followed_flow import FollowedFlow, make_flows
from edgescope.experiments.task_record import open_record
from edgescope.flows.averages import principal_axes, squared_components
from edgescope.linalg import top_eigenpairs
from edgescope.measures import Reading
from edgescope.objective import Objective
from edgescope.objective.modules import thread_count
from edgescope.optim import rule_for
from edgescope.progress import Progress
from edgescope.store import (
    Checkpoint,
    Record,
    latest_checkpoint,
    pack_state,
    save_checkpoint,
    unpack_state,
)
from edgescope.store.record import ENDED
from edgescope.sweep import PlannedRun, Tagged
from edgescope.training import RunConfig

OPTIMIZER = "optimizer"
"""The part of the readings that has the values of the optimizer itself."""

START = "flow_start"
"""The entry of the record's info with the step at which the flows begin; None where the run did not come so far."""


@dataclass(frozen=True)
class FlowTask(Tagged):
    """``config``'s optimizer, and ``flows`` of it by name, each with its number of Euler steps a unit of time.

    The flows begin after ``start`` steps; with None where the optimizer begins to oscillate, from the mean of two
    iterates, and the run is at most ``config.steps`` steps long until then. They go on for ``horizon`` steps, and the
    optimizer ``alone`` for some more. Averages over time are taken ``average_from`` steps after the flows begin, with
    intervals from means over ``block`` steps. Readings, each with a part for the optimizer and for every flow:

    - ``flow_loss``, ``flow_gradient_square`` at every step; the parts "NAME/predicted" are predicted averages;
    - ``flow_distance`` and ``flow_output_distance`` of a flow from the averaged trajectory, in weights (Euclidean) and
      in outputs on the test data (root mean square), every ``every`` steps;
    - ``flow_sharpness`` over its threshold, of flows that know it at every step, and of the averaged trajectory every
      ``every`` steps;
    - ``flow_variance`` along the first two axes of Σ, predicted and measured, at every step;
    - ``flow_preconditioner`` Σ√ν, and ``locked``, the share of coordinates that move against their last step.
    """

    name: str
    cost: float
    config: RunConfig
    flows: tuple[tuple[str, int], ...]
    horizon: int
    start: int | None = 0
    every: int = 10
    average_from: int = 0
    block: int = 50
    alone: int = 0
    checkpoint_every: int = 200

    def planned_runs(self) -> list[PlannedRun]:
        steps = self.horizon + (self.config.steps if self.start is None else self.start)
        return [PlannedRun(self.config, steps, note="the optimizer alone; its flows take far more")]

    @property
    def expected_seconds(self) -> float:
        return self.cost

    def run(self, folder: Path, progress: Progress) -> None:
        """Run all; where an earlier call was interrupted, on from its last checkpoint."""
        config = self.config.as_dict() | {
            "flows": dict(self.flows),
            "average_from": self.average_from,
            "block": self.block,
        }
        with (
            thread_count(1),
            open_record(folder, config, self.tags) as record,
        ):
            if record.status not in ENDED:
                _SideBySide(self, record, latest_checkpoint(folder)).run(progress)


class _SideBySide:
    """The optimizer and its flows at the same time; ``time`` counts the steps since the flows began."""

    def __init__(self, task: FlowTask, record: Record, checkpoint: Checkpoint | None) -> None:
        self.task, self.record = task, record
        self.began = time.perf_counter()
        self.seconds = float(record.info.get("seconds", 0.0))
        self.descent = FullBatchDescent(task.config)
        # The flows are made where they begin, as at the first call, before a checkpoint is loaded into them.
        self.between = task.start is None
        self.arrived = True
        if task.start is None:
            self.arrived = self.descent.reach_oscillation(task.config.steps)
        else:
            self.descent.reach(task.start)
        self.start = self.descent.steps
        self.flows: dict[str, FollowedFlow] = {}
        self.time = 0
        self.flips: Float[Tensor, " P"] | None = None
        self.eigenvector: Float[Tensor, "P k"] | None = None
        if self.arrived:
            pair = (self.descent.iterates[-2], self.descent.iterates[-1]) if self.between else None
            self.flows = make_flows(task.flows, self.descent.objective, self.descent.optimizer, pair)
            self.descent.advance()
            if checkpoint is not None:
                self._load(checkpoint)
        record.remove_after(self.start + self.time) if self.time else record.remove_after(0)

    def run(self, progress: Progress) -> None:
        task, record = self.task, self.record
        record.set_info(START, self.start if self.arrived else None)
        if not self.arrived:
            record.append(self.descent.steps, [Reading("flow_loss", {OPTIMIZER: self.descent.loss})])
        length = task.horizon + task.alone
        while self.arrived and self.time < length:
            readings = self._advance(alone=self.time >= task.horizon)
            record.append(self.start + self.time, readings)
            progress(self.time / length, f"step {self.start + self.time}, loss {self.descent.loss:.4g}")
            if not math.isfinite(self.descent.loss):
                record.note(self.start + self.time, "diverged", "the training loss is not finite")
                record.set_status("diverged")
                break
            if self.time % task.checkpoint_every == 0:
                self._save()
        record.set_info("steps", self.descent.steps)
        record.set_info("seconds", self._elapsed())
        if record.status not in ENDED:
            record.set_status("finished")

    def _advance(self, alone: bool) -> list[Reading]:
        """One step of everything, or of the optimizer ``alone``: the readings at the new time."""
        self.time += 1
        if alone:
            self.descent.advance()
            return [Reading("flow_loss", {OPTIMIZER: self.descent.loss}), *self._locked()]
        descent = self.descent
        loss: dict[str, float] = {}
        square: dict[str, float] = {}
        sharpness: dict[str, float] = {}
        variance: dict[str, float] = {}
        preconditioner: dict[str, float] = {}
        now = descent.iterates[-1]
        for name, flow in self.flows.items():
            flow.advance()
            loss |= _parts(name, flow.loss, flow.predicted_loss)
            square |= _parts(name, flow.gradient_square, flow.predicted_gradient_square)
            sharpness |= _parts(name, flow.sharpness)
            preconditioner |= _parts(name, flow.preconditioner)
            variance |= _variances(name, flow, now - flow.weights)
        descent.advance()
        loss[OPTIMIZER], square[OPTIMIZER] = descent.loss, descent.gradient_square
        preconditioner |= _parts(OPTIMIZER, descent.preconditioner)
        readings = [Reading("flow_loss", loss), Reading("flow_gradient_square", square)]
        readings += [Reading("flow_variance", variance)] if variance else []
        readings += [Reading("flow_preconditioner", preconditioner)] if OPTIMIZER in preconditioner else []
        readings += self._locked()
        if self.time % self.task.every == 0 or self.time == self.task.horizon:
            readings += self._beside_average(sharpness)
        elif sharpness:
            readings += [Reading("flow_sharpness", sharpness)]
        return readings

    def _locked(self) -> list[Reading]:
        """The share of coordinates that moved against their step before."""
        if not self.between:
            return []
        moved = (self.descent.iterates[-2] - self.descent.iterates[-1]).sign()
        before, self.flips = self.flips, moved
        if before is None:
            return []
        return [Reading("locked", {"": float((moved * before < 0).double().mean())})]

    def _beside_average(self, sharpness: dict[str, float]) -> list[Reading]:
        average = self.descent.average(self.between)
        distance = {name: float((flow.weights - average).norm()) for name, flow in self.flows.items()}
        readings = [Reading("flow_distance", distance)]
        if self.descent.test is not None:
            outputs = _outputs(self.descent.test, average)
            away = {
                name: float((_outputs(self.descent.test, flow.weights) - outputs).square().mean().sqrt())
                for name, flow in self.flows.items()
            }
            readings.append(Reading("flow_output_distance", away))
        if not self.between:  # in other norms S is no eigenvalue, and long to measure
            sharpness = sharpness | {OPTIMIZER: self._sharpness(average)}
        readings += [Reading("flow_sharpness", sharpness)] if sharpness else []
        return readings

    def _sharpness(self, w: Float[Tensor, " P"]) -> float:
        """The largest eigenvalue at ``w`` in the metric of the optimizer now, over its threshold."""
        rule = rule_for(self.descent.optimizer, self.descent.objective.tensors)
        operator = rule.effective(self.descent.objective.operator(w))
        found = top_eigenpairs(operator, k=1, metric=rule.metric(), start=self.eigenvector, tol=1e-3)
        self.eigenvector = found.vectors
        return float(found.values[0]) / rule.threshold().value

    def _elapsed(self) -> float:
        return self.seconds + time.perf_counter() - self.began

    def _save(self) -> None:
        self.descent.objective.release()  # a run that is continued has nothing worked out yet either
        state = {
            "descent": self.descent.state(),
            "flows": {name: flow.state() for name, flow in self.flows.items()},
            "flips": self.flips,
            "eigenvector": self.eigenvector,
            "time": self.time,
        }
        tensors, meta = pack_state("comparison", state)
        save_checkpoint(self.record.folder, self.start + self.time, tensors, meta)
        self.record.set_info("seconds", self._elapsed())

    def _load(self, checkpoint: Checkpoint) -> None:
        state = unpack_state("comparison", checkpoint.tensors, checkpoint.meta)
        self.descent.load_state(state["descent"])
        for name, flow in self.flows.items():
            flow.load_state(state["flows"][name])
        self.flips, self.eigenvector, self.time = state["flips"], state["eigenvector"], state["time"]


def _parts(name: str, value: float, predicted: float = math.nan) -> dict[str, float]:
    found = {name: value, f"{name}/predicted": predicted}
    return {part: number for part, number in found.items() if not math.isnan(number)}


def _variances(name: str, flow: FollowedFlow, deviation: Float[Tensor, " P"]) -> dict[str, float]:
    if flow.covariance is None or flow.basis is None or flow.metric is None:
        return {}
    values, axes = principal_axes(flow.basis, flow.covariance)
    measured = squared_components(axes, flow.metric, deviation)
    found: dict[str, float] = {}
    for number in range(min(2, len(values))):
        found[f"{name}/{number + 1}"] = float(measured[number])
        found[f"{name}/{number + 1}/predicted"] = float(values[number])
    return found


def _outputs(objective: Objective, w: Float[Tensor, " P"]) -> Float[Tensor, "n C"]:
    with torch.no_grad():
        return torch.cat([outputs for outputs, _ in objective.outputs(w)])
