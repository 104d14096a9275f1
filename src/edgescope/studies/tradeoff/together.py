"""Gradient descent at many rates from one initialisation, all rates side by side, each until its own end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from edgescope.objective.modules import thread_count
from edgescope.store import Record, latest_checkpoint, pack_state, save_checkpoint, unpack_state
from edgescope.store.record import FILE
from edgescope.studies.measured import measured_at
from edgescope.training import Member, Parts, RunConfig, Stack
from edgescope.training.run import DIVERGED

SAVE_SECONDS = 30.0
"""Of computing between two checkpoints."""


def descend_together(
    configs: Mapping[str, RunConfig], folder: Path, progress: Callable[[float, str], None] = lambda share, words: None
) -> None:
    """The runs ``configs``, which differ in learning rate and number of steps alone, each with a record in its folder.

    The names are those of the folders below ``folder``. Each run ends as :func:`edgescope.training.train` on the full
    batch would: at the first step at which the training loss is at most its ``stop_loss``, after its ``steps``, or
    when it diverges; then its measures are taken, and nothing before. As runs end the others go on in smaller stacks.
    Continues from what an earlier call left in ``folder``, at the last checkpoint.
    """
    with thread_count(1), ExitStack() as closing:
        runs = {
            name: _Run(name, config, closing.enter_context(_record(folder / name, config)))
            for name, config in configs.items()
        }
        left = [name for name, run in runs.items() if run.record.status not in ("finished", "diverged")]
        if left:
            _Descent(runs, left, folder).carry_out(progress)


def _record(folder: Path, config: RunConfig) -> Record:
    if (folder / FILE).exists():
        return Record.open(folder)
    return Record.create(folder, config=config.as_dict())


@dataclass(frozen=True)
class _Run:
    name: str
    config: RunConfig
    record: Record

    def ends(self, step: int, loss: float, first: float) -> str | None:
        """How the run ends where its loss after ``step`` steps is ``loss``; None where it goes on."""
        if not math.isfinite(loss) or loss > DIVERGED * abs(first):
            return "diverged"
        if self.config.stop_loss is not None and loss <= self.config.stop_loss:
            return "stopped"
        return "finished" if step >= self.config.steps else None

    def end(self, how: str, step: int, loss: float, w: Float[Tensor, " P"], initial: Float[Tensor, " P"]) -> None:
        """Measure and record the run at its end."""
        began, record = time.perf_counter(), self.record
        if how == "diverged":
            record.append(step, [], [("diverged", f"the training loss is {loss:.4g}")])
        else:
            words = f"training loss {loss:.4g} has reached {self.config.stop_loss:g}" if how == "stopped" else ""
            record.append(
                step,
                measured_at(Parts(self.config), record, w, initial, step),
                [("stopped", words)] if words else [],
            )
        record.set_info("steps", step)
        record.set_info("seconds", (record.info.get("seconds") or 0.0) + time.perf_counter() - began)
        record.set_status("diverged" if how == "diverged" else "finished")


class _Descent:
    """The runs that are under way, in a stack of them and of some that have ended since it was last made smaller."""

    def __init__(self, runs: Mapping[str, _Run], left: Sequence[str], folder: Path) -> None:
        self.runs, self.folder, self.of = {name: runs[name] for name in left}, folder, len(runs)
        checkpoint, state = latest_checkpoint(folder), None
        if checkpoint is not None:
            state = unpack_state("descent", checkpoint.tensors, checkpoint.meta)
        self.members: list[str] = state["members"] if state else list(left)
        self.seconds: float = state["seconds"] if state else 0.0
        """Spent on training so far, for each of the runs that have not ended."""
        parts = Parts(runs[self.members[0]].config)
        rates = [Member(runs[name].config.lr) for name in self.members]
        self.stack = Stack([parts.model] * len(rates), parts.loss_fn, parts.samples, rates)
        self.initial, self.first = self.stack.flat()[0], float(self.stack.losses(parts.samples)[0])
        if state:
            self.stack.load_state(state["stack"])

    def carry_out(self, progress: Callable[[float, str], None]) -> None:
        began, saved = time.perf_counter(), time.perf_counter()
        longest = max(run.config.steps for run in self.runs.values())
        while self.runs:
            step, before = self.stack.steps, self.stack.flat()
            losses = self.stack.step().tolist()
            for name, loss, w in zip(self.members, losses, before, strict=True):
                run = self.runs.get(name)
                how = run.ends(step, loss, self.first) if run else None
                if run and how:
                    self.seconds += (time.perf_counter() - began) / len(self.runs)
                    run.record.set_info("seconds", self.seconds)
                    run.end(how, step, loss, w, self.initial)
                    del self.runs[name]
                    began = time.perf_counter()
            if 0 < len(self.runs) <= len(self.members) // 2:
                self.stack.keep([self.members.index(name) for name in self.runs])
                self.members = list(self.runs)
            if time.perf_counter() - saved > SAVE_SECONDS:
                self._save()
                saved = time.perf_counter()
            share = (self.of - len(self.runs) + step / longest) / (self.of + 1)
            progress(share, f"{len(self.runs)} of {self.of} rates on their way, step {step}")

    def _save(self) -> None:
        state = {"stack": self.stack.state(), "members": self.members, "seconds": self.seconds}
        tensors, meta = pack_state("descent", state)
        save_checkpoint(self.folder, self.stack.steps, tensors, meta)
