"""Training the paper's networks by one method from several seeds, measured at ever longer intervals."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgescope.data import DATA
from edgescope.data.synthetic import Synthetic
from edgescope.errors import EdgescopeError
from edgescope.experiments.task_record import open_record
from edgescope.losses import LOSSES, Logistic, Loss
from edgescope.measures import Reading
from edgescope.models import MODELS
from edgescope.models.shallow import Shallow, ShallowNetwork
from edgescope.objective.modules import thread_count
from edgescope.optim import SAM
from edgescope.simulate.relu import ReluDescent, advance_together
from edgescope.store import Record, pack_state, save_checkpoint, unpack_state
from edgescope.sweep import Tagged
from edgescope.theory import relu

MOMENTS = 12
"""Moments at which a run is measured, evenly spaced in the logarithm of the epoch from the tenth on."""

NEURONS = 12
"""Neurons kept of the last network, those with the largest weights |head| |row|."""


@dataclass(frozen=True)
class Stage:
    """Part of a training: a rate, radius, noise and decay for some ``epochs`` (passes over the data, on average)."""

    epochs: int
    lr: float
    rho: float | None = None
    sigma: float | None = None
    decay: float = 0.0


@dataclass(frozen=True)
class SeedsTask(Tagged):
    """One method on one kind of network, from each of ``seeds``, which draws data, start and order of samples.

    With ``batch=1`` steps are compiled and seeds run side by side in threads; otherwise they are full-batch steps of
    the optimizers. In the record a reading has a part for each seed.
    """

    name: str
    cost: float
    method: str
    data: str
    model: str
    loss: str
    stages: tuple[Stage, ...]
    seeds: tuple[int, ...]
    batch: int | None = 1

    @property
    def epochs(self) -> int:
        return sum(stage.epochs for stage in self.stages)

    def config(self) -> dict[str, Any]:
        """What the record says of these runs."""
        last = self.stages[-1]
        radius = "" if last.rho is None else f", ρ {last.rho:g}"
        noise = "" if last.sigma is None else f", σ {last.sigma:g}"
        decay = f" {last.decay:g}" if last.decay else ""
        return {
            "data": self.data,
            "model": self.model,
            "loss": self.loss,
            "optimizer": f"{self.method}{radius}{noise}{decay}",
            "lr": last.lr,
            "batch": self.batch or "all",
            "seeds": len(self.seeds),
            "epochs": self.epochs,
        }

    @property
    def expected_seconds(self) -> float:
        return self.cost

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None:
        began = time.perf_counter()
        with (
            torch.random.fork_rng(devices=[]),
            open_record(folder, self.config(), self.tags) as record,
        ):
            if record.status in ("finished", "diverged"):
                return
            threads = torch.get_num_threads()
            with thread_count(1):
                runs = [_SeedRun(self, seed) for seed in self.seeds]
                before = _load(runs, record)
                for epoch in self.moments():
                    steps = epoch * runs[0].steps_per_epoch
                    if steps > runs[0].descent.steps or (steps == 0 and record.last_step is None):
                        self._reach(runs, epoch, threads)
                        record.append(steps, _readings(runs))
                        _save(runs, folder, before + time.perf_counter() - began)
                    progress(epoch / self.epochs, f"epoch {epoch:,} of {self.epochs:,}")
            lost = sum(not run.descent.finite for run in runs)
            record.set_info("seconds", before + time.perf_counter() - began)
            if lost:
                record.note(runs[0].descent.steps, "diverged", f"{lost} of {len(runs)} seeds")
            record.set_status("diverged" if lost == len(runs) else "finished")

    def moments(self) -> list[int]:
        """The epochs at which is measured, the ends of stages among them."""
        between = np.geomspace(min(10, self.epochs), self.epochs, MOMENTS).round().astype(int).tolist()
        return sorted({0, *between, *self.ends()})

    def ends(self) -> list[int]:
        """The epochs at which stages end."""
        return np.cumsum([stage.epochs for stage in self.stages]).tolist()

    def _reach(self, runs: Sequence[_SeedRun], epoch: int, threads: int) -> None:
        """Train up to the end of ``epoch``; a moment never lies beyond the end of a stage that began before it."""
        done = runs[0].descent.steps // runs[0].steps_per_epoch
        stage = next(stage for stage, end in zip(self.stages, self.ends(), strict=True) if done < end)
        for run in runs:
            run.descent.lr, run.descent.rho = stage.lr, stage.rho
            run.descent.sigma, run.descent.weight_decay = stage.sigma, stage.decay
        steps = (epoch - done) * runs[0].steps_per_epoch
        if self.batch is None:
            for run in runs:
                run.descent.advance(steps)
        else:
            advance_together([run.descent for run in runs], steps, threads=threads)


class FullBatch:
    """Full-batch SAM, or descent where ``rho`` is None, by the PyTorch optimizers, with the face of a simulation."""

    def __init__(self, model: ShallowNetwork, x: Tensor, y: Tensor, loss: Loss) -> None:
        self.network, self.steps = copy.deepcopy(model).double(), 0
        self.lr, self.rho, self.sigma, self.weight_decay = 1.0, None, None, 0.0
        self._x, self._y, self._loss = x.double(), y.double(), loss
        if hasattr(self.network.norm, "running_var"):
            self.network.normalize_over(self._x)

    def advance(self, steps: int) -> FullBatch:
        how: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay}
        parameters = list(self.network.parameters())
        optimizer: Any = (
            torch.optim.SGD(parameters, **how)
            if self.rho is None
            else SAM(parameters, torch.optim.SGD, rho=self.rho, model=self.network, **how)
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self._loss(self.network(self._x), self._y)
            loss.backward()
            return loss

        for _ in range(steps):
            optimizer.step(closure)
        self.steps += steps
        return self

    @property
    def finite(self) -> bool:
        return all(bool(torch.isfinite(p).all()) for p in self.network.parameters())

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps} | {f"p{i}": p.detach().clone() for i, p in enumerate(self.network.parameters())}

    def load_state(self, state: dict[str, Any]) -> None:
        self.steps = int(state["steps"])
        with torch.no_grad():
            for i, parameter in enumerate(self.network.parameters()):
                parameter.copy_(state[f"p{i}"])


class _SeedRun:
    """One seed: its data, its network in training, and what is known of both."""

    def __init__(self, task: SeedsTask, seed: int) -> None:
        source: Any = DATA.build(f"{task.data}{',' if ':' in task.data else ':'}seed={seed}")
        assert isinstance(source, Synthetic)
        data = source.load()
        kind: Any = MODELS.build(task.model)
        assert isinstance(kind, Shallow)
        self.loss: Loss = LOSSES.build(task.loss)
        model: Any = kind.build(data.input_shape, 1, seed)
        self.x, self.y = data.inputs.double(), data.targets.double()
        self.tests = data.test_inputs.double(), data.test_targets.double()
        self.kind, self.source = kind, source
        first = task.stages[0]
        self.descent: Any = (
            FullBatch(model, self.x, self.y, self.loss)
            if task.batch is None
            else ReluDescent(model, self.x, self.y, lr=first.lr, loss=self.loss, seed=seed)
        )
        self.steps_per_epoch = 1 if task.batch is None else len(self.x)

    @property
    def scale(self) -> float:
        """Traces of the logistic loss over those of the squared one, at interpolation."""
        return self.loss.curvature / 2 if isinstance(self.loss, Logistic) else 1.0

    def least(self) -> float:
        """The least trace on the training data, NaN where none is known."""
        if self.kind.activation != "relu":
            return np.nan
        targets = self.y * (self.loss.target if isinstance(self.loss, Logistic) else 1.0)
        try:
            return self.scale * relu.minimal_trace(self.kind.architecture, self.x, targets, depth=self.kind.depth)
        except EdgescopeError:
            return np.nan

    def values(self) -> dict[str, float]:
        network = self.descent.network
        if not self.descent.finite:
            return {}
        with torch.no_grad():
            train, test = network(self.x), network(self.tests[0])
        rows, head = network.layers[0].weight.detach(), network.head.weight.detach()[0]
        columns = rows.norm(dim=0)
        return {
            "training_loss": float(self.loss(train, self.y)),
            "training_error": self._error(train, self.y),
            "test_error": self._error(test, self.tests[1]),
            "trace": self.scale * relu.trace_at_interpolation(network, self.x),
            "least_trace": self.least(),
            "column_ratio": float(columns[:2].min() / columns[2:].max()),
            "head_norm": float(head.norm()),
        }

    def _error(self, outputs: Tensor, targets: Tensor) -> float:
        return float(self.source.errors(outputs, targets).double().mean())

    def neurons(self) -> np.ndarray:
        """The largest neurons of the last network: rows of the first layer times the size of their head."""
        network = self.descent.network
        rows, head = network.layers[0].weight.detach(), network.head.weight.detach()[0]
        if len(network.layers) > 1:
            head = network.layers[1].weight.detach().norm(dim=0)
        if hasattr(network.norm, "running_var"):
            rows = rows / rows.norm(dim=1, keepdim=True)
            head = head * network.norm.weight.detach()
        scaled = rows * head.abs()[:, None]
        return scaled[scaled.norm(dim=1).argsort(descending=True)[:NEURONS]].numpy()


def _readings(runs: Sequence[_SeedRun]) -> list[Reading]:
    each = [run.values() for run in runs]
    names = next((list(values) for values in each if values), [])
    readings = [
        Reading(name, {str(i): values[name] for i, values in enumerate(each) if name in values}) for name in names
    ]
    first = next((run for run in runs if run.descent.finite), None)
    if first is not None:
        readings.append(Reading("neurons", {}, arrays={"0": first.neurons()}))
    return readings


def _save(runs: Sequence[_SeedRun], folder: Path, seconds: float) -> None:
    state = {"seconds": seconds} | {str(i): run.descent.state() for i, run in enumerate(runs)}
    save_checkpoint(folder, runs[0].descent.steps, *pack_state("runs", state), keep=2)


def _load(runs: Sequence[_SeedRun], record: Record) -> float:
    checkpoint = record.latest_checkpoint()
    if checkpoint is None:
        return 0.0
    state = unpack_state("runs", checkpoint.tensors, checkpoint.meta)
    for i, run in enumerate(runs):
        run.descent.load_state(state[str(i)])
    return float(state["seconds"])
