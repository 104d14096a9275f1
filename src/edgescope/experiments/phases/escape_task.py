"""Escapes that are timed: chains and whole networks over temperatures or batch sizes, upwards and downwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgescope.experiments.phases.pieces_task import PiecesTask
from edgescope.measures import Reading
from edgescope.simulate.chains import chains
from edgescope.simulate.linear_data import Gaussian
from edgescope.simulate.linear_nets import Event, balanced_nets, simulate
from edgescope.theory.deep_linear import Mode

SECOND = np.array([0.0, 1.0])
"""The direction of the weaker of two modes, among inputs and outputs."""


@dataclass(frozen=True)
class Noise:
    """One setting of the noise: Langevin ``temperature``, or mini-batches of ``batch``; ``max_steps`` at most."""

    max_steps: int
    temperature: float | None = None
    batch: int | None = None
    lr: float = 0.05

    @property
    def coldness(self) -> float:
        """What the logarithm of the time should rise with: 1/T, or batch/lr."""
        return 1 / self.temperature if self.temperature else (self.batch or 0) / self.lr


@dataclass(frozen=True)
class EscapeTask(PiecesTask[Noise]):
    """Replicas of a mode of ``signal`` at ``decay`` over levels of noise; up from 0, or down from the learned state.

    ``width`` None is a chain of three scalars; otherwise networks 2-width-width-2 whose other mode, of signal 0.9, is
    learned throughout. ``level`` is the product at which a replica has escaped.
    """

    signal: float
    decay: float
    level: float
    replicas: int
    width: int | None = None
    down: bool = False

    @property
    def mode(self) -> Mode:
        return Mode(3, self.signal)

    def describe(self) -> dict[str, Any]:
        model = "chain of 3" if self.width is None else f"linear 2-{self.width}-{self.width}-2"
        return {"data": f"population, signal {self.signal:g}", "model": model, "lr": self.pieces[0].lr} | {
            "decay": self.decay,
            "signal": self.signal,
            "down": self.down,
            "width": self.width or 1,
        }

    def simulate(self, piece: Noise, seed: int) -> list[Reading]:
        noise: dict[str, Any] = {"temperature": piece.temperature, "batch": piece.batch, "lr": piece.lr, "seed": seed}
        if self.width is None:
            start = self.mode.minimum(self.decay) if self.down else 0.0
            run = chains(
                self.mode, self.decay, steps=piece.max_steps, level=self.level, start=start, replicas=self.replicas,
                **noise,
            )  # fmt: skip
            times, escaped, steps = run.times, run.passed, run.steps
        else:
            sizes = (2, self.width, self.width, 2)
            learned = [Mode(3, 0.9).minimum_product(self.decay), self.mode.minimum_product(self.decay) * self.down]
            event = Event(SECOND, SECOND, self.level)
            nets = balanced_nets(np.diag(learned), sizes, self.replicas)
            data = Gaussian(np.diag([0.9, self.signal]))
            whole = simulate(data, nets, sizes, decay=self.decay, steps=piece.max_steps, event=event, **noise)
            times, escaped, steps = whole.times, whole.happened, whole.steps
        values = {"coldness": piece.coldness, "lr": piece.lr}
        values |= {"escapes": float(escaped.sum()), "steps": float(steps.sum())}
        values |= {"temperature": piece.temperature} if piece.temperature else {"batch": float(piece.batch or 0)}
        return [Reading("escape", values, arrays={"times": times, "escaped": escaped.astype(float)})]
