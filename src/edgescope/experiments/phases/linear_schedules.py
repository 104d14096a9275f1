"""Schedules of weight decay on deep linear networks: learned in how many steps, kept, and freed from traps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from edgescope.experiments.phases.linear_network import add_jitter
from edgescope.experiments.phases.pieces_task import PiecesTask
from edgescope.measures import Reading
from edgescope.phases import DecaySchedule, schedule
from edgescope.simulate.linear_data import Gaussian
from edgescope.simulate.linear_nets import Event, Nets, balanced_nets, end_to_end, simulate
from edgescope.theory.deep_linear import Mode

SHORT = 0.95
"""The share of the learned product of the final decay from which a mode counts as learned."""

CAP = 20
"""Runs at constant decay end after so many times the steps of the schedule."""


@dataclass(frozen=True)
class ScheduledNetworks:
    """Networks of this ``depth`` whose weights in the two modes begin at ``ratio`` times the saddle of the weaker mode
    at the final decay; ``goal`` "dip" and "noise": those that are held in the trap before they are freed."""

    depth: int
    goal: Literal["learn", "dip", "noise"]
    ratio: float = 0.5

    @property
    def name(self) -> str:
        """What the case is called."""
        start = "" if self.goal == "noise" else f", {self.ratio:g} times the saddle"
        return f"depth {self.depth}, {self.goal}{start}"


@dataclass(frozen=True)
class LinearSchedulesTask(PiecesTask[ScheduledNetworks]):
    """Two modes, a final decay of so large a ``share`` of the critical one of the weaker, networks of 6 hidden units.

    Starts are balanced, with a ``jitter`` of every weight relative to the mode's that differs between networks.
    """

    replicas: int
    random: int
    noise_steps: int
    signals: tuple[float, float] = (0.9, 0.6)
    share: float = 0.6
    lr: float = 0.02
    jitter: float = 0.05
    margin: float = 0.1

    def describe(self) -> dict[str, Any]:
        return {"data": f"population, signals {self.signals}", "model": "linear, 2-6-...-6-2", "lr": self.lr}

    def simulate(self, piece: ScheduledNetworks, seed: int) -> list[Reading]:
        """Values: "learned" of "replicas" at the end of the schedule, "constant" of them at the final decay alone, and
        for "learn" also "closed", the steps of the closed form, and "fewest", of random schedules over those of this
        one. Arrays for "learn": "steps/constant" and "steps/scheduled" of each network (inf: not in time)."""
        mode = Mode(piece.depth, self.signals[1])
        final = self.share * mode.critical_decay()
        sizes = (2, *(6,) * (piece.depth - 1), 2)
        start = piece.ratio * mode.saddle(final)
        values = {"depth": float(piece.depth), "final": final, "replicas": float(self.replicas)}
        if piece.goal == "noise":
            nets = balanced_nets(np.zeros((2, 2)), sizes, self.replicas)
            plan = schedule(mode, goal="free", final=final, steps=self.noise_steps, lr=self.lr, margin=self.margin)
            values["temperature"] = plan.temperatures[0]
        else:
            nets = balanced_nets(start**piece.depth * np.eye(2), sizes, self.replicas)
            add_jitter(nets, sizes, self.jitter * start, np.random.default_rng(seed))
            if piece.goal == "dip":
                nets = self._train(nets, sizes, final, round(1 / final / self.lr))
                start = float(self._weakest(nets, sizes).min()) ** (1 / piece.depth)
            plan = schedule(
                mode, goal="learn" if piece.goal == "learn" else "free", final=final, start=start, lr=self.lr,
                margin=self.margin,
            )  # fmt: skip
        arrays = {}
        if piece.goal == "learn":
            closed = (
                mode.learning_time(0.0, start, (SHORT * mode.minimum_product(final)) ** (1 / piece.depth)) / self.lr
            )
            values |= {"closed": closed, "fewest": self._fewest(mode, final, start, closed, seed)}
            most = int(CAP * closed)
            values["most"] = float(most)
            goal = SHORT * mode.minimum_product(final)
            arrays["steps/constant"], _ = self._until(nets, sizes, final, most, goal)
            first, after = self._until(nets, sizes, 0.0, plan.steps[1], goal)
            then, _ = self._until(after, sizes, final, most, goal)
            arrays["steps/scheduled"] = np.where(np.isfinite(first), first, plan.steps[1] + then)
        settle = round(20 / final / self.lr)
        for name, ended in (
            ("learned", self._scheduled(nets, sizes, plan, settle, seed)),
            ("constant", self._train(nets, sizes, final, plan.steps[1] + settle)),
        ):
            values[name] = float((self._weakest(ended, sizes) > mode.minimum_product(final) / 2).sum())
        return [Reading("linear schedule", values, arrays=arrays, note=piece.name)]

    def _scheduled(self, nets: Nets, sizes: tuple[int, ...], plan: DecaySchedule, settle: int, seed: int) -> Nets:
        ends = (*plan.steps[1:], plan.steps[-1] + settle)
        for k, end in enumerate(ends):
            temperature = plan.temperatures[k] or None
            nets = self._train(nets, sizes, plan.decays[k], end - plan.steps[k], temperature, seed + k)
        return nets

    def _train(
        self, nets: Nets, sizes: tuple[int, ...], decay: float, steps: int, temperature: float | None = None,
        seed: int = 0,
    ) -> Nets:  # fmt: skip
        data = Gaussian(np.diag(self.signals))
        return simulate(
            data, nets, sizes, decay=decay, lr=self.lr, steps=steps, temperature=temperature, seed=seed
        ).nets

    def _until(
        self, nets: Nets, sizes: tuple[int, ...], decay: float, steps: int, goal: float
    ) -> tuple[Float[np.ndarray, " R"], Nets]:
        """The step at which the product of the weaker mode crosses ``goal`` (inf: not in time), and the networks."""
        event = Event(np.array([0.0, 1.0]), np.array([0.0, 1.0]), goal)
        run = simulate(
            Gaussian(np.diag(self.signals)), nets, sizes, decay=decay, lr=self.lr, steps=steps, event=event
        )  # fmt: skip
        return np.where(run.happened, run.steps, np.inf), run.nets

    def _weakest(self, nets: Nets, sizes: tuple[int, ...]) -> Float[np.ndarray, " R"]:
        """The product of the weaker mode in each network."""
        return end_to_end(nets, sizes)[:, 1, 1]

    def _fewest(self, mode: Mode, final: float, start: float, closed: float, seed: int) -> float:
        """The fewest steps to the learned state among random schedules of up to four decays, which may be 0 and end
        anywhere, over the steps of no decay; one network each, all of its weights equal."""
        rng = np.random.default_rng(seed)
        count, total = self.random, int(4 * closed)
        decays = np.exp(rng.uniform(np.log(1e-4), np.log(mode.critical_decay()), (count, 4)))
        decays[rng.random((count, 4)) < 0.25] = 0.0
        decays[0] = 0.0  # that of the closed form
        ends = np.sort(rng.uniform(0, 1.5 * closed, (count, 3)), axis=1)
        w, steps = np.full(count, start), np.full(count, np.inf)
        goal = SHORT * mode.minimum_product(final)
        for step in range(1, total + 1):
            decay = decays[np.arange(count), (ends < step).sum(1)]
            w = w + self.lr * ((mode.signal - w**mode.depth) * w ** (mode.depth - 1) - decay * w)
            steps = np.where(np.isinf(steps) & (w**mode.depth >= goal), step, steps)
        return float(steps[1:].min() / steps[0])
