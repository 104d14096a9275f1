"""Batched training of many runs of one architecture, and a probe that tells whether it is faster than one by one."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.losses import accuracy_counts
from edgescope.measures import MEASURES, Measure, Reading
from edgescope.memory import require
from edgescope.objective.modules import thread_count
from edgescope.optim import OPTIMIZERS, plan_optimizers
from edgescope.progress import Progress, no_progress
from edgescope.store import Record, latest_checkpoint, pack_state, save_checkpoint, unpack_state
from edgescope.store.record import FILE
from edgescope.training.config import RunConfig
from edgescope.training.decay_schedules import DECAY_SCHEDULES, ConstantDecay
from edgescope.training.gradients import FromBatches
from edgescope.training.measured import measured_at
from edgescope.training.parts import Parts
from edgescope.training.run import DIVERGED
from edgescope.training.schedules import SCHEDULES, ConstantSchedule
from edgescope.training.stack import Member, Stack

PROBE_STEPS: Final = 4
PROBE_ROUNDS: Final = 3
SAVE_SECONDS: Final = 30.0
"""Seconds of computation between two checkpoints."""

OF_OUTPUTS: Final = ("loss", "accuracy")
"""Measures that can be taken of all runs at once during training; all others are taken at the end."""


def kind_of(config: RunConfig) -> RunConfig | None:
    """The options that runs must share to be trained in one batch; None for a run that must be trained alone.

    A run can be batched if its optimizer is SGD, with or without momentum, its gradients are not clipped, its learning
    rate and weight decay are constant, its data, model and loss are given by name, all measures except loss and
    accuracy are taken ``@end``, it has no ``stop_accuracy``, and it is not watched for spikes. Learning rate, seed,
    momentum and weight decay may differ.
    """
    if len(plan_optimizers(config.optimizer).named) > 1 or config.clip is not None:
        return None
    if not isinstance(SCHEDULES.build(config.schedule), ConstantSchedule):
        return None
    if not isinstance(DECAY_SCHEDULES.build(config.decay_schedule), ConstantDecay):
        return None
    name, options = OPTIMIZERS.parse(config.optimizer)
    if name != "sgd" or set(options) - {"momentum", "weight_decay"}:
        return None
    if config.function is not None or config.budget is not None or config.stop_accuracy is not None or config.spikes:
        return None
    for text in config.measures:
        spec, at, when = text.rpartition("@")
        measure = type(MEASURES.build(spec if at else text))
        follows = measure.follow is not Measure.follow
        if follows or measure.needs_previous or (when != "end" and (at or measure.name not in OF_OUTPUTS)):
            return None
    return dataclasses.replace(config, lr=1.0, seed=0, optimizer="sgd")


def speedup(configs: Mapping[str, RunConfig]) -> float:
    """How many times faster a batched step of all runs is than their steps one by one, on one thread.

    Cost: about 12 steps of each kind. Raises :class:`InputError` for models that cannot be stacked,
    and :class:`MemoryBudgetError` for more than fit into memory.
    """
    with thread_count(1):
        parts = _parts(configs.values())
        _refuse_too_large(parts)
        stack = _stack(parts)
        gradients = FromBatches(parts[0].model, parts[0].loss_fn, parts[0].samples, parts[0].config.batch, 0)

        def alone() -> None:
            gradients.compute(0)
            parts[0].optimizer.step()

        def seconds(step: Callable[[], Any]) -> float:
            start = time.perf_counter()
            for _ in range(PROBE_STEPS):
                step()
            return time.perf_counter() - start

        stack.step()  # traced
        alone()
        rounds = [(seconds(alone), seconds(stack.step)) for _ in range(PROBE_ROUNDS)]
        return len(parts) * min(one for one, _ in rounds) / min(all_ for _, all_ in rounds)


def train_batched(
    configs: Mapping[str, RunConfig],
    folders: Mapping[str, Path],
    folder: Path,
    progress: Progress = no_progress,
    info: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    save_seconds: float = SAVE_SECONDS,
) -> None:
    """Train ``configs``, all of one :func:`kind_of`, in one batch, each with its record in its own of ``folders``.

    Each run ends where :func:`edgescope.training.train` would end it, and equals that run up to rounding. Ended runs
    are removed from the batch once half of it has ended. ``folder`` holds the checkpoints of the batch, from which
    a call after a kill continues; one is written every ``save_seconds`` of computation. ``info`` is stored in every
    record, ``tags`` in every new one.
    """
    with thread_count(1), ExitStack() as closing:
        runs = {}
        for (name, config), parts in zip(configs.items(), _parts(configs.values()), strict=True):
            path = folders[name]
            known = (path / FILE).exists()
            record = Record.resume(path) if known else Record.create(path, config=config.as_dict(), tags=tags)
            runs[name] = _MemberRun(parts, closing.enter_context(record))
            for key, value in ({"device": _device_of(parts)} | dict(info or {})).items():
                record.set_info(key, value)
        left = [name for name, run in runs.items() if run.record.status not in ("finished", "diverged")]
        if left:
            _BatchedRuns(runs, left, folder).run(progress, save_seconds)


def _device_of(parts: Parts) -> str:
    return str(next(parts.model.parameters()).device)


def _parts(configs: Iterable[RunConfig]) -> list[Parts]:
    """The parts of each configuration, with the data loaded once and shared."""
    parts: list[Parts] = []
    for config in configs:
        parts.append(Parts(config, like=parts[0] if parts else None))
    return parts


def _refuse_too_large(parts: list[Parts]) -> None:
    """Raise MemoryBudgetError if the outputs of all layers of all networks need more memory than there is."""
    model, (inputs, _) = parts[0].model, parts[0].samples
    sizes: list[int] = []

    def count(layer: Any, given: Any, output: Any) -> None:
        sizes.append(output.nbytes if isinstance(output, Tensor) else 0)

    hooks = [layer.register_forward_hook(count) for layer in model.modules() if not list(layer.children())]
    try:
        with torch.no_grad():
            model(inputs[:1])
    finally:
        for hook in hooks:
            hook.remove()
    needed = 3 * sum(sizes) * (parts[0].config.batch or len(inputs)) * len(parts)
    hint = "fewer runs in a batch, or batched='never'"
    require(needed, f"one batch of {len(parts)} networks", device=inputs.device, hint=hint)


def _stack(parts: list[Parts]) -> Stack:
    members = []
    for part in parts:
        options = OPTIMIZERS.parse(part.config.optimizer)[1]
        members.append(Member(part.config.lr, part.config.seed, **options))
    first = parts[0]
    return Stack([part.model for part in parts], first.loss_fn, first.samples, members, first.config.batch)


class _MemberRun:
    def __init__(self, parts: Parts, record: Record) -> None:
        self.config, self.record, self.parts = parts.config, record, parts
        self.first: float | None = None

    def ends(self, step: int, loss: float, measured: float | None) -> str | None:
        """How the run ends after ``step`` steps, given the loss of its next step; None if it continues."""
        self.first = loss if self.first is None else self.first
        reached = loss if self.config.batch is None else measured
        if not math.isfinite(loss) or loss > DIVERGED * abs(self.first):
            return "diverged"
        if self.config.stop_loss is not None and reached is not None and reached <= self.config.stop_loss:
            return "stopped"
        return "finished" if step >= self.config.steps else None

    def end(self, how: str, step: int, loss: float, w: Float[Tensor, " P"], initial: Float[Tensor, " P"]) -> None:
        record = self.record
        if how == "diverged":
            words = f"the training loss is {loss:.4g}, at the start it was {self.first:.4g}"
            record.append(step, [], [("diverged", words)], add=True)
        else:
            words = f"training loss {loss:.4g} has reached {self.config.stop_loss}"
            record.append(step, measured_at(self.parts, record, w, initial, step), add=True)
            if how == "stopped":
                record.note(step, "stopped", words)
            tensors, meta = pack_state("model", self.parts.model.state_dict())
            save_checkpoint(record.folder, step, tensors, meta)
        record.set_info("steps", step)
        record.set_status("diverged" if how == "diverged" else "finished")


class _BatchedRuns:
    """The runs in progress, and the stack that trains them together with runs that ended since it was last reduced."""

    def __init__(self, runs: Mapping[str, _MemberRun], left: list[str], folder: Path) -> None:
        self.runs, self.folder, self.of = {name: runs[name] for name in left}, folder, len(runs)
        checkpoint = latest_checkpoint(folder)
        if checkpoint is not None and checkpoint.notice:
            for run in self.runs.values():
                run.record.note(checkpoint.step, "checkpoint", checkpoint.notice)
        state = unpack_state("batched", checkpoint.tensors, checkpoint.meta) if checkpoint else None
        self.members: list[str] = state["members"] if state else list(left)
        self.seconds: float = state["seconds"] if state else 0.0
        self.stack = _stack([runs[name].parts for name in self.members])
        self.initial = dict(zip(self.members, self.stack.flat(), strict=True))
        if state:
            self.stack.load_state(state["stack"])
            for name, first in state["first"].items():
                runs[name].first = first

    def run(self, progress: Progress, save_seconds: float) -> None:
        began = saved = time.perf_counter()
        longest = max(run.config.steps for run in self.runs.values())
        every = next(iter(self.runs.values())).config.every or 10
        while self.runs:
            step, before = self.stack.steps, self.stack.flat()
            measured = self._measure() if step % every == 0 else {}
            losses = self.stack.step().tolist()
            for name, loss, w in zip(self.members, losses, before, strict=True):
                run = self.runs.get(name)
                how = run.ends(step, loss, measured.get(name)) if run else None
                if run and how:
                    spent = self.seconds + time.perf_counter() - began
                    run.record.set_info("seconds", spent / self.of)
                    run.end(how, step, loss, w, self.initial[name])
                    del self.runs[name]
            if 0 < len(self.runs) <= len(self.members) // 2:
                self.stack.keep([self.members.index(name) for name in self.runs])
                self.members = list(self.runs)
            if time.perf_counter() - saved > save_seconds and self.runs:
                self._save(self.seconds + time.perf_counter() - began)
                saved = time.perf_counter()
            share = (self.of - len(self.runs) + step / longest) / (self.of + 1)
            progress(min(share, 1.0), f"{len(self.runs)} of {self.of} runs in one batch, step {step}")

    def _measure(self) -> dict[str, float]:
        """Record loss and accuracy of the runs in progress if configured; return the training losses by name."""
        first = next(iter(self.runs.values()))
        wanted = [name for name in OF_OUTPUTS if name in first.config.measures]
        if not wanted:
            return {}
        found: dict[str, dict[str, list[float]]] = {name: {} for name in wanted}
        for part, data in (("train", first.parts.samples), ("test", first.parts.test_samples)):
            for measure in wanted:
                loss = measure == "loss"
                found[measure][part] = self.stack.losses(data).tolist() if loss else self._accuracies(data)
        for number, name in enumerate(self.members):
            if name in self.runs:
                readings = [
                    Reading(measure, {part: values[number] for part, values in parts.items()})
                    for measure, parts in found.items()
                ]
                self.runs[name].record.append(self.stack.steps, readings)
        losses = found.get("loss", {}).get("train", [])
        return dict(zip(self.members, losses, strict=True)) if losses else {}

    def _accuracies(self, data: tuple[Tensor, Tensor]) -> list[float]:
        return [accuracy_counts(one, data[1])[0] / len(data[1]) for one in self.stack.outputs(data[0])]

    def _save(self, seconds: float) -> None:
        first = {name: self.runs[name].first for name in self.runs}
        state = {"stack": self.stack.state(), "members": self.members, "seconds": seconds, "first": first}
        tensors, meta = pack_state("batched", state)
        save_checkpoint(self.folder, self.stack.steps, tensors, meta)


def grouped(configs: Mapping[str, RunConfig]) -> list[dict[str, RunConfig]]:
    """Groups of at least two runs that can be trained in one batch."""
    groups: dict[RunConfig, dict[str, RunConfig]] = {}
    for name, config in configs.items():
        kind = kind_of(config)
        if kind is not None:
            groups.setdefault(kind, {})[name] = config
    return [group for group in groups.values() if len(group) > 1]
