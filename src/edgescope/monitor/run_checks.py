"""The checks of a run along its steps: changed models, parameters that do not move, gradients of another loss."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from edgescope.errors import ModelChangedError
from edgescope.measures import Measure, Moment, Reading
from edgescope.measures.gradient_norm import TENSORS_AT_ZERO
from edgescope.measures.rules import ids_of
from edgescope.monitor import checks
from edgescope.monitor.notifier import Notifier
from edgescope.monitor.pending import PendingStep, Pieces, gradients_of, loss_scale
from edgescope.monitor.run_state import RunState
from edgescope.objective import Objective


class RunChecks:
    """Checks what can go wrong around a run without an error, and gives a notice of each cause.

    Keeps what a check needs from one step to the next: how many steps each parameter group was moved, which changes of
    the model were noticed, and training's gradient at the last reading.
    """

    def __init__(
        self,
        objective: Objective,
        optimizers: list[torch.optim.Optimizer],
        measures: list[Measure],
        progress: RunState,
        notifier: Notifier,
    ) -> None:
        self._objective, self._progress, self._notifier = objective, progress, notifier
        self._measures = {measure.name: measure for measure in measures}
        self._moved: dict[tuple[int, int], int] = {}  # steps at a learning rate that is not 0, of each parameter group
        self._changes: set[str] = set()
        self._gradient_before: tuple[Pieces, float] | None = None  # training's, and its cosine with the objective's
        self._looks = 0
        held = {p for one in optimizers for p in ids_of(one)}
        own = {id(p) for p in objective.model.parameters()}
        self._elsewhere = (own & held) | {id(t) for t in objective.tensors}  # left out on purpose, or replaced since

    def begin_part(self, optimizer: torch.optim.Optimizer, ready: bool, due: bool) -> None:
        """``optimizer`` begins its part of a step, after which something is measured where it is ``due``."""
        if due and not self._progress.diverged:
            checks.check_evaluation_mode(self._objective, self._notifier.notify)
        before, self._gradient_before = self._gradient_before, None
        if before is None or not ready:
            return
        notifier = self._notifier
        with notifier.measuring("the gradient of training cannot be read"):
            gradients = gradients_of(self._objective, ids_of(optimizer), loss_scale(optimizer))
            known = any(kind in ("mode", "dropout") for kind, _ in notifier.notices.given())  # which explains it
            if not known and not checks.check_loss(*before, gradients, notifier.notify):
                self._gradient_before = before

    def end_part(self, optimizer: torch.optim.Optimizer) -> None:
        """``optimizer`` has taken its part of a step."""
        for key, group in _groups_of(optimizer):
            if group.get("lr", 1) != 0:
                self._moved[key] = self._moved.get(key, 0) + 1

    def after_reading(
        self,
        moment: Moment,
        pending: PendingStep,
        readings: dict[str, Reading],
        optimizers: list[torch.optim.Optimizer],
    ) -> None:
        """Check what the readings show, and the model and optimizers as they are now."""
        objective, notifier = self._objective, self._notifier
        notify = notifier.notify
        checks.check_readings(readings.values(), self._measures, moment.diverged, notify)
        held = {p for one in optimizers for p in ids_of(one)} if optimizers else None
        with contextlib.suppress(ModelChangedError):
            checks.check_changes(objective, held, self._changes, notify)
            # After the first step: by then the optimizers that were not given have been found.
            if held is not None and self._progress.step and not self._changes:
                checks.check_parameters_without_optimizer(objective, held, notify)
                measured = {id(tensor) for tensor in objective.tensors}
                every = {id(p): p for one in optimizers for group in one.param_groups for p in group["params"]}
                checks.check_other_parameters(objective, every, self._elsewhere | measured, notify)
        if moment.diverged or moment.changed:
            return
        checks.check_step(moment.taken, moment.scale_note(), notify)
        self._keep_gradient(moment, pending)
        known = ("dead-units", "") in notifier.notices.given()
        if self._progress.step and TENSORS_AT_ZERO in moment.shared and not known:
            checks.check_dead_units(objective, moment.shared[TENSORS_AT_ZERO](), notify)
        initial = self._progress.initial
        if initial is not None and ("model", "still") not in notifier.notices.given():
            checks.check_unmoved_parameters(objective, initial, self._expected_moves(optimizers), notify)

    def state(self, optimizers: list[torch.optim.Optimizer]) -> list[list[int]]:
        """How many steps each parameter group of the optimizers was moved."""
        return [[self._moved.get(key, 0) for key, _ in _groups_of(one)] for one in optimizers]

    def load_state(self, state: list[list[int]], optimizers: list[torch.optim.Optimizer]) -> None:
        """Continue from a state that :meth:`state` gave."""
        self._moved = {}
        for optimizer, counts in zip(optimizers, state, strict=False):
            self._moved |= {key: n for (key, _), n in zip(_groups_of(optimizer), counts, strict=False)}

    def _keep_gradient(self, moment: Moment, pending: PendingStep) -> None:
        """Keep training's gradient where it is not the objective's, to see whether mini-batches explain that."""
        taken, parts = moment.taken, [part for part in pending.parts.values() if part.gradients]
        if taken is None or taken.gradient_cosine is None or len(moment.optimizers) > 1 or len(parts) != 1:
            return
        if not taken.on_the_objective and taken.clipped_to is None and self._looks < checks.MAX_GRADIENTS_COMPARED:
            self._looks += 1
            self._gradient_before = parts[0].gradients, taken.gradient_cosine

    def _expected_moves(self, optimizers: list[torch.optim.Optimizer]) -> list[float]:
        """By how much a gradient of 1 should have moved each tensor by now, at least; 0 where nothing is expected."""
        expected: dict[int, float] = {}
        for key, group in (pair for optimizer in optimizers for pair in _groups_of(optimizer)):
            if self._moved.get(key, 0) >= checks.MOVED_AFTER:
                expected |= {id(tensor): float(group.get("lr", 1.0)) for tensor in group["params"]}
        return [expected.get(id(tensor), 0.0) for tensor in self._objective.tensors]


def _groups_of(optimizer: torch.optim.Optimizer) -> list[tuple[tuple[int, int], dict[str, Any]]]:
    """Parameter groups, each with a name that stays when ``load_state_dict`` replaces them."""
    return [((id(optimizer), number), group) for number, group in enumerate(optimizer.param_groups)]
