"""Checks before the first measurement: the loss is a function of its parameters, and the one that is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.distributed as distributed
import torch.utils.checkpoint
from torch import Tensor

from edgescope.errors import (
    EdgescopeError,
    InputError,
    MemoryBudgetError,
    NotDeterministicError,
    NotDifferentiableError,
)
from edgescope.notices import Notices
from edgescope.objective.batch_weights import find_weights, settle_weights
from edgescope.objective.batches import Batch
from edgescope.objective.checks import differ, evaluated, refuse_loss
from edgescope.objective.denominators import ClassificationMeans
from edgescope.objective.embeddings import EmbeddingCalls, constant_rows
from edgescope.objective.few_samples import LEAST, few_rows
from edgescope.objective.live_model import LiveReads, refuse_live_parameters, refuse_other_function
from edgescope.objective.modes import Flags
from edgescope.objective.modules import measuring
from edgescope.objective.problem import A_LOSS, Point, TrainingProblem
from edgescope.objective.weights import Weighing

SAMPLES = 256
"""Samples on which loss and gradient are looked at; fewer of large models, whole batches with batch statistics."""

COMPARED = 32
"""Samples on which the objective is compared with the live model."""


class ProblemChecks:
    """The checks of one problem at the live parameters, in two parts, between which processes may agree on weights.

    ``whole_batches``: samples of a batch are coupled by batch statistics, so that a batch is never cut.
    """

    def __init__(
        self, problem: TrainingProblem, flags: Flags, notices: Notices, *, whole_batches: bool, group: object
    ) -> None:
        self.problem, self.flags, self.notices = problem, flags, notices
        self.whole_batches, self.group = whole_batches, group
        self.point = problem.point(None)
        self.embeddings, self.reads = EmbeddingCalls(), LiveReads(problem)

    def first(self, weights: bool) -> Weighing | None:
        """Refuse what cannot be measured at all: embeddings and checkpoints of some kinds, rewritten parameters.

        Batches of which the model cannot take a part (graphs, gathered rows) are taken whole from now on, and a loss
        that takes derivatives itself is evaluated with gradients on. ``weights``: find what the loss of a batch is a
        mean over. Cost: a loss on at most 256 samples (a batch, with batch statistics), two on at most 32, and that of
        :func:`find_weights`.
        """
        with self.problem.preparing():
            means = self._first_loss()
            _refuse_rewritten(self.problem, self.point)
            found = None
            with self._as_far_as_memory_goes():
                found = find_weights(self.problem, self.point, self.flags, means, self.group) if weights else None
        return found

    def _first_loss(self) -> ClassificationMeans:
        batches = self.problem.batches
        try:
            means = self._seen(SAMPLES)
            with self._as_far_as_memory_goes():
                self._settle_gradients()
            return means
        except MemoryBudgetError:
            raise
        except EdgescopeError as error:
            if batches.uncut or self.whole_batches:
                raise
            batches.uncut = True
            try:
                means = self._seen(SAMPLES)
            except EdgescopeError:
                raise error from error.__cause__  # of the fewest samples that show it
        with self._as_far_as_memory_goes():
            self._settle_gradients()
        return means

    def _seen(self, samples: int) -> ClassificationMeans:
        batch = self._batch(samples)
        means = ClassificationMeans(batch)
        with self._measuring(), _reentrant_checkpoints_refused(), self.embeddings, means, self.reads:
            means.loss = float(self._loss(batch).detach())
        return means

    def _settle_gradients(self) -> None:
        """Evaluate the loss with gradients on everywhere where without them it fails, or is another."""
        batch = self._batch(COMPARED)
        with self._measuring():
            loss = self._loss(batch).detach()
        try:
            with self._measuring(), torch.no_grad():
                without = float(self._loss(batch))
        except MemoryBudgetError:
            raise
        except EdgescopeError:
            self.problem.takes_gradients = True
            return
        self.problem.takes_gradients = differ(float(loss), without, loss.dtype)

    def rest(self, found: Weighing | None) -> None:
        """Weigh batches as was found, and refuse a loss that is not finite, is random, or is not that of the model.

        None: only hold the padding rows of embeddings constant. Cost: two losses and a gradient on at most 256 samples
        (a batch, with batch statistics), two losses and two gradients on at most 32, and a gradient more where
        embeddings have padding rows.
        """
        if found is not None:
            settle_weights(self.problem, found, self.notices, self.group)
        with self.problem.preparing():
            self._hold_padding_rows()
            if found is not None:
                self._refuse_others(found)

    def _refuse_others(self, found: Weighing) -> None:
        batch, compared = self._batch(SAMPLES), self._batch(COMPARED)
        with self._as_far_as_memory_goes():
            with self._measuring():
                loss = refuse_loss(lambda: self._loss(batch), self.point.tensors)
                self.problem.count_preparation(1 - A_LOSS, batch)
                refuse_live_parameters(self.problem, self.point, loss, self.reads, compared)
            with self._measuring():
                refuse_other_function(self.problem, self.point, compared)
        if not self.problem.batches.repeats and (self.whole_batches or found.reduction == "coupled"):
            raise NotDeterministicError(
                "batches are composed differently at every pass, and the loss depends on their composition",
                expected="the same batches at every pass",
                hint="list(loader), or a loader without shuffle=True",
            )

    def _hold_padding_rows(self) -> None:
        """Treat the padding rows of embeddings, which never train, as constants."""
        if not self.embeddings.padding:
            return
        with self._measuring():
            batch = self._batch(SAMPLES)
            loss = self._loss(batch)
            if loss.requires_grad:
                self.problem.count_preparation(1 - A_LOSS, batch)
                gradients = torch.autograd.grad(loss, self.point.tensors, allow_unused=True)
                self.problem.hold_constant(constant_rows(self.point.tensors, gradients, self.embeddings))

    @contextmanager
    def _as_far_as_memory_goes(self) -> Iterator[None]:
        """A check that runs out of memory is left, which is told; on all processes of a group, or on none."""
        try:
            yield
        except MemoryBudgetError as error:
            if self.group is not None:
                raise
            text = f"the remaining checks of the loss were skipped: {error.what}"
            self.notices.give("measure", text, faq="failed-measures", cause="checks")

    def _measuring(self) -> AbstractContextManager[None]:
        return measuring(self.problem.model, self.flags, self.problem.device)

    def _loss(self, batch: Batch) -> Tensor:
        return evaluated(lambda: self.problem.loss_of(self.point.tensors, self.point.constants, batch))

    def _batch(self, samples: int) -> Batch:
        """At most so many samples: fewer of a large model, as :func:`few_rows` has it, and whole batches of others."""
        batches = self.problem.batches
        if self.whole_batches:
            return batches.heaviest
        return batches.some(few_rows(self.problem, samples, least=LEAST * samples // COMPARED))


def warn_of_processes(model: object, group: object, notices: Notices) -> None:
    """Say that data are not shared between the processes that train, where nobody said how they are."""
    known = distributed.is_available() and distributed.is_initialized()
    if group is None and known and distributed.get_world_size() > 1:
        wrapper = " of the DistributedDataParallel model" if hasattr(model, "reducer") else ""
        notices.give(
            "processes",
            f"{distributed.get_world_size()} processes train, and without group= this objective measures the loss"
            f"{wrapper} on the data of this process alone",
            faq="several-processes",
            hint="group=torch.distributed.group.WORLD with each process's share of the data",
        )


def _refuse_rewritten(problem: TrainingProblem, point: Point) -> None:
    """Refuse a forward pass that has written into the parameters, and undo it in the model itself."""
    if torch.equal(problem.layout.join([t.detach() for t in point.tensors]), point.flat):
        if torch.equal(problem.live(), point.flat):
            return
        with torch.no_grad():
            for tensor, piece in zip(problem.tensors(), problem.layout.split(point.flat), strict=True):
                tensor.copy_(piece)
    problem.forget()
    raise InputError(
        "a forward pass of the model rewrites its parameters",
        expected="parameters that only the optimizer changes",
        hint="a parametrization (torch.nn.utils.parametrize), or clipping after optimizer.step()",
    )


@contextmanager
def _reentrant_checkpoints_refused() -> Iterator[None]:
    """Inside, activation checkpointing of the reentrant kind, which has no second derivative, is an error by name."""

    class Refused:
        @staticmethod
        def apply(*_: Any) -> None:
            raise NotDifferentiableError(
                "activation checkpointing with use_reentrant=True has no second derivative",
                hint="torch.utils.checkpoint.checkpoint(..., use_reentrant=False)",
            )

    module: Any = torch.utils.checkpoint
    before, module.CheckpointFunction = module.CheckpointFunction, Refused
    try:
        yield
    finally:
        module.CheckpointFunction = before
