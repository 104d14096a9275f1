"""Escapes that are timed: chains and whole networks over temperatures or batch sizes, upwards and downwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgescope.measures import Reading
from edgescope.phases import EscapeTimes
from edgescope.simulate.chains import chains
from edgescope.simulate.linear_data import Gaussian, Samples
from edgescope.simulate.linear_nets import Event, balanced_nets, end_to_end, follow
from edgescope.studies.phases.pieces import PiecesTask
from edgescope.theory.deep_linear import Mode

SIZES = (2, 10, 10, 2)
SECOND = np.array([0.0, 1.0])
"""The direction of the weaker of two modes, among inputs and outputs."""


@dataclass(frozen=True)
class Level:
    """One setting of the noise: Langevin ``temperature``, or mini-batches of ``batch``; ``most`` steps at most."""

    most: int
    temperature: float | None = None
    batch: int | None = None
    lr: float = 0.05

    @property
    def coldness(self) -> float:
        """What the logarithm of the time should rise with: 1/T, or batch/lr."""
        return 1 / self.temperature if self.temperature else (self.batch or 0) / self.lr


@dataclass(frozen=True)
class EscapeTask(PiecesTask):
    """Replicas of a mode of ``signal`` at ``decay`` over levels of noise; up from 0, or down from the learned state.

    ``width`` None is a chain of three scalars; otherwise networks 2-width-width-2 whose other mode, of signal 0.9, is
    learned throughout. ``level`` is the product at which a replica has escaped.
    """

    levels: tuple[Level, ...]
    signal: float
    decay: float
    level: float
    replicas: int
    width: int | None = None
    down: bool = False

    @property
    def mode(self) -> Mode:
        return Mode(3, self.signal)

    def pieces(self) -> Sequence[Level]:
        return self.levels

    def describe(self) -> dict[str, Any]:
        model = "chain of 3" if self.width is None else f"linear 2-{self.width}-{self.width}-2"
        return {"data": f"population, signal {self.signal:g}", "model": model, "lr": self.levels[0].lr} | {
            "decay": self.decay,
            "signal": self.signal,
            "down": self.down,
            "width": self.width or 1,
        }

    def simulate(self, piece: Level, seed: int) -> list[Reading]:
        noise: dict[str, Any] = {"temperature": piece.temperature, "batch": piece.batch, "lr": piece.lr, "seed": seed}
        if self.width is None:
            start = self.mode.minimum(self.decay) if self.down else 0.0
            run = chains(
                self.mode, self.decay, steps=piece.most, level=self.level, start=start, replicas=self.replicas, **noise
            )
            times, escaped, steps = run.times, run.passed, run.steps
        else:
            sizes = (2, self.width, self.width, 2)
            learned = [Mode(3, 0.9).minimum_product(self.decay), self.mode.minimum_product(self.decay) * self.down]
            event = Event(SECOND, SECOND, self.level)
            nets = balanced_nets(np.diag(learned), sizes, self.replicas)
            data = Gaussian(np.diag([0.9, self.signal]))
            whole = follow(data, nets, sizes, decay=self.decay, steps=piece.most, event=event, **noise)
            times, escaped, steps = whole.times, whole.happened, whole.steps
        values = {
            "coldness": piece.coldness,
            "lr": piece.lr,
            "escapes": float(escaped.sum()),
            "steps": float(steps.sum()),
        }
        values |= {"temperature": piece.temperature} if piece.temperature else {"batch": float(piece.batch or 0)}
        return [Reading("escape", values, arrays={"times": times, "escaped": escaped.astype(float)})]


@dataclass(frozen=True)
class NullTask(PiecesTask):
    """The paper's protocol: trapped by mini-batch descent at a high decay, then released to lower ones.

    A piece is how long the trap was held (epochs of 8 batches), the decay after it, and whether the samples are fixed
    (512, whitened, with the population's correlations exactly) or fresh.
    """

    trials: tuple[tuple[int, float, bool], ...]
    epochs: int
    replicas: int
    trap: float = 0.38
    lr: float = 0.08
    batch: int = 64
    signals: tuple[float, float] = (0.9, 0.8)

    def pieces(self) -> Sequence[tuple[int, float, bool]]:
        return self.trials

    def describe(self) -> dict[str, Any]:
        data = f"signals {self.signals}, fresh or 512 whitened samples"
        return {"data": data, "model": "linear 2-10-10-2", "lr": self.lr, "batch": self.batch, "trap": self.trap}

    def simulate(self, piece: tuple[int, float, bool], seed: int) -> list[Reading]:
        """ "trapped": networks with a second singular value below 1e-3 after the trap; "escaped": those of them above
        0.3 at the end; arrays: second singular values after the trap and at the end, and their decay in the trap."""
        held, decay, fixed = piece
        data = exact_samples(self.signals, 512, seed) if fixed else Gaussian(np.diag(self.signals))
        start = np.diag([Mode(3, s).minimum_product(0.1) for s in self.signals])
        nets = balanced_nets(start, SIZES, self.replicas)
        options: dict[str, Any] = {"lr": self.lr, "batch": self.batch}
        trap = follow(data, nets, SIZES, decay=self.trap, steps=8 * held, every=8, seed=seed, **options)
        before = second(end_to_end(trap.nets, SIZES))
        free = follow(data, trap.nets, SIZES, decay=decay, steps=8 * self.epochs, seed=seed + 500, **options)
        after = second(end_to_end(free.nets, SIZES))
        fall = np.median(second(trap.maps), axis=0)
        seen = (fall < 1e-3) & (fall > 1e-13)  # small against 1, large against rounding of the other mode
        slope = np.polyfit(trap.at[seen] * self.lr, np.log(fall[seen]), 1)[0] if seen.sum() > 5 else np.nan
        trapped = before < 1e-3
        values = {
            "held": float(held),
            "decay": decay,
            "fixed": float(fixed),
            "trapped": float(trapped.sum()),
            "escaped": float((trapped & (after > 0.3)).sum()),
            "watched": float(trapped.sum() * 8 * self.epochs * self.lr),
        }
        values |= {"fall": float(slope)} if np.isfinite(slope) else {}
        return [Reading("null", values, arrays={"before": before, "after": after, "fall": fall, "fall_at": trap.at})]


@dataclass(frozen=True)
class StagedTask(PiecesTask):
    """Two modes apart from each other, both unlearned, under Langevin noise: when each is learned."""

    replicas: int
    steps: int
    signals: tuple[float, float] = (0.9, 0.6)
    decay: float = 0.2
    temperature: float = 5e-4
    lr: float = 0.05

    def pieces(self) -> Sequence[int]:
        return (0,)

    def describe(self) -> dict[str, Any]:
        return {"data": f"population, signals {self.signals}", "model": "linear 2-10-10-2", "lr": self.lr}

    def simulate(self, piece: int, seed: int) -> list[Reading]:
        """Arrays: the steps at which each mode passed half its learned product (infinite: never), and one run's."""
        nets = balanced_nets(np.zeros((2, 2)), SIZES, self.replicas)
        run = follow(
            Gaussian(np.diag(self.signals)), nets, SIZES, decay=self.decay, lr=self.lr, steps=self.steps,
            temperature=self.temperature, every=20, seed=seed,
        )  # fmt: skip
        values = np.linalg.svd(run.maps, compute_uv=False)  # (R, T, 2)
        halves = np.array([Mode(3, s).minimum_product(self.decay) / 2 for s in self.signals])
        passed = values > halves
        first = np.where(passed.any(1), run.at[passed.argmax(1)].astype(float), np.inf)
        arrays = {"first": first, "at": run.at, "shown": values[0]}
        return [Reading("staged", {"replicas": float(self.replicas)}, arrays=arrays)]


def second(maps: np.ndarray) -> np.ndarray:
    """The second singular values of end-to-end maps."""
    return np.linalg.svd(maps, compute_uv=False)[..., 1]


def exact_samples(signals: Sequence[float], count: int, seed: int) -> Samples:
    """Samples whose inputs are white and whose correlations are those of the population, exactly."""
    rng, size = np.random.default_rng(seed), len(signals)
    white = np.linalg.qr(rng.standard_normal((count, 2 * size)))[0] * count**0.5
    noise = np.sqrt(1 - np.square(signals))
    return Samples(white[:, :size], white[:, :size] * np.array(signals) + white[:, size:] * noise)


def times_of(reading_times: np.ndarray, escaped: np.ndarray) -> EscapeTimes:
    """What a record kept, as escape times; a replica that began beyond the level counts half a step."""
    return EscapeTimes(np.maximum(reading_times, 1e-9), escaped > 0)
