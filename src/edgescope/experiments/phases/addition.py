"""The network of study `grokking` that learns addition: its delay and its barrier at several decays, and a sweep."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.experiments.phases.loops import both_ways, settled_share
from edgescope.experiments.phases.pieces_task import PiecesTask
from edgescope.measures import Reading
from edgescope.objective import Objective
from edgescope.phases import barrier, scan
from edgescope.training import Member, Parts, RunConfig, Stack

LEARNED, UNDERSTOOD = 0.5, 0.5
"""Training accuracy from which it has learned, and test accuracy from which it has understood."""

FASTER = 4
"""How many times as fast a second sweep goes: what it shows less of, when slow, is delay and no second state."""

PARTS = ("delays", "sweep", f"sweep, {FASTER} times as fast")

MEMORISED = 0.1
"""A network that has learned has only memorised while its test accuracy is below this."""


@dataclass(frozen=True)
class AdditionSettings:
    """Runs of ``steps`` at each of the ``decays``, with so many ``checkpoints`` and ``path_steps`` of each path; and a
    sweep of ``sweep_steps`` at each of the ``swept`` decays, ``settle`` at the first, ``refine`` halvings between."""

    decays: tuple[float, ...]
    steps: int
    swept: tuple[float, ...]
    sweep_steps: int
    settle: int
    path_steps: int
    refine: int
    checkpoints: int = 80


@dataclass(frozen=True)
class AdditionTask(PiecesTask[str]):
    """Two layers, 32 GELU units, half-squared loss, full-batch descent with momentum: as study `grokking` has it."""

    modulus: int
    settings: AdditionSettings
    lr: float = 1.0
    momentum: float = 0.9

    @property
    def config(self) -> RunConfig:
        return RunConfig(
            data=f"modular-addition:modulus={self.modulus}", model="mlp:widths=32,activation=gelu", loss="mse",
            lr=self.lr, seed=self.seed, dtype="float64", threads=1, path="kept",
        )  # fmt: skip

    def describe(self) -> dict[str, Any]:
        return {"data": self.config.data, "model": self.config.model, "lr": self.lr, "optimizer": "momentum 0.9"}

    def simulate(self, piece: str, seed: int) -> list[Reading]:
        parts = Parts(self.config)
        return [self._delays(parts) if piece == "delays" else self._sweep(parts, piece)]

    def _delays(self, parts: Parts) -> Reading:
        """Arrays over decays: "delay" from when it had learned until it had understood (infinite: never), in steps;
        "height" of the lowest path from the last state that had only memorised to the last state of all, "straight"
        of the straight line between them, "rise" of the run itself; "start", the loss there; and both accuracies."""
        members = [Member(self.lr, self.seed, self.momentum, decay) for decay in self.settings.decays]
        stack = Stack([copy.deepcopy(parts.model) for _ in members], parts.loss_fn, parts.samples, members)
        every = self.settings.steps // self.settings.checkpoints
        at = np.arange(0, self.settings.steps + 1, every)
        states, train, test = [], [], []
        for step in at:
            while stack.steps < step:
                stack.step()
            states.append(stack.flat().clone())
            train.append(_accuracies(stack, parts.samples))
            test.append(_accuracies(stack, parts.test_samples))
        seen = {"train": np.array(train), "test": np.array(test)}
        rows = [
            self._path(parts, decay, at, seen["train"][:, k], seen["test"][:, k], torch.stack(states)[:, k])
            for k, decay in enumerate(self.settings.decays)
        ]
        arrays = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        return Reading("addition", {"modulus": float(self.modulus)}, arrays=arrays | seen | {"at": at})

    def _path(
        self, parts: Parts, decay: float, at: np.ndarray, train: np.ndarray, test: np.ndarray,
        states: Float[Tensor, "T P"],
    ) -> dict[str, float]:  # fmt: skip
        learned, understood = (
            int(np.argmax(passed)) if passed.any() else None for passed in (train >= LEARNED, test >= UNDERSTOOD)
        )
        memorised = np.flatnonzero((train >= LEARNED) & (test < MEMORISED))
        found = dict.fromkeys(("height", "straight", "rise", "start"), np.nan) | {"decay": decay}
        if learned is None or understood is None or not memorised.size:
            return found | {"delay": np.inf if memorised.size else np.nan}
        found["delay"] = float(at[understood] - at[learned])
        whole = parts.objective(parts.samples, parts.mode, l2=decay, path="kept", threads=1)
        run = states[memorised[-1] :]
        losses = _losses(whole, run)
        line = run[0] + torch.linspace(0, 1, 11, dtype=run.dtype)[:, None] * (run[-1] - run[0])
        inner = run[1:-1][:: max(1, len(run) // 6)]
        path = barrier(whole, run[0], run[-1], images=9, steps=self.settings.path_steps, tol=0.02, through=inner)
        known = [float(losses.max() - losses[0])] + ([path.height] if path.converged else [])  # the run is a path too
        found |= {"height": min(known), "start": losses[0]}
        found |= {"straight": float(_losses(whole, line).max() - losses[0])}
        found |= {"rise": float((losses - np.minimum.accumulate(losses)).max())}
        return found

    def _sweep(self, parts: Parts, piece: str) -> Reading:
        """ "area/NAME" of each order parameter; arrays of both ways over "decays"."""
        steps = self.settings.sweep_steps if piece == "sweep" else max(1, self.settings.sweep_steps // FASTER)
        objective = parts.objective(parts.samples, parts.mode, path="kept", threads=1)
        unseen = parts.evaluations(path="kept", threads=1)["test"]
        order = {
            "norm": lambda o: float(o.parameters().norm()),
            "training accuracy": lambda o: o.accuracy(),
            "test accuracy": lambda o: unseen.accuracy(o.parameters()),
        }
        found = scan(
            objective, self.settings.swept, lr=self.lr, steps=steps, optimizer=f"sgd:momentum={self.momentum:g}",
            order=order, jitter=1e-3, first=self.settings.settle, refine=self.settings.refine, seed=self.seed,
        )  # fmt: skip
        values = {f"area/{name}": found.area(name) for name in order} | {"settled": settled_share(found)}
        return Reading("addition sweep", values, arrays=both_ways(found), note=piece)


def _accuracies(stack: Stack, samples: tuple[Tensor, Tensor]) -> Float[np.ndarray, " M"]:
    inputs, targets = samples
    return (stack.outputs(inputs).argmax(-1) == targets).double().mean(1).numpy()


def _losses(objective: Objective, points: Float[Tensor, "n P"]) -> Float[np.ndarray, " n"]:
    return np.array([float(objective.loss(w)) for w in points])
