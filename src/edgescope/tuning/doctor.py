"""Every check of a model, its loss, its data and its optimizer at once, and what each measure is expected to take."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Final

import torch
from torch import nn

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.errors import EdgescopeError, EdgescopeWarning
from edgescope.losses import supervised
from edgescope.measures import MEASURES, Measure
from edgescope.measures.base import as_measure
from edgescope.measures.problem_size import ProblemSize, check_measures
from edgescope.monitor.checks import check_mode
from edgescope.monitor.forecast import forecast_reading
from edgescope.objective import Objective
from edgescope.objective.batches import Batches, random_numbers_kept
from edgescope.objective.checks import is_criterion, refuse_options, usable_device
from edgescope.objective.expected_memory import ExpectedMemory, expected_memory
from edgescope.objective.modules import own_precision, unwrapped
from edgescope.short_errors import short_errors
from edgescope.tuning.model_checks import model_rows
from edgescope.tuning.optimizer_checks import optimizer_rows
from edgescope.tuning.problem_report import Area, CheckRow, MeasureRow, ProblemReport, Status
from edgescope.tuning.training_copy import MakeOptimizer

AREA_OF: Final[dict[str, Area]] = {
    "mode": "model",
    "dropout": "model",
    "model": "model",
    "weights": "data",
    "processes": "data",
}
"""Where notices of an objective belong, by their kind; the others to the loss."""

NAMES: Final = {"mode": "training mode", "dropout": "training mode", "weights": "weights of batches"}
"""What notices of these kinds are about."""


@short_errors
@in_plain_arithmetic
def doctor(
    model: nn.Module,
    loss_fn: Any,
    data: Any,
    *,
    optimizer: torch.optim.Optimizer | MakeOptimizer | None = None,
    measures: Iterable[str | Measure] | None = None,
) -> ProblemReport:
    """Check everything that a measurement will meet, without stopping at the first fault.

    Model, data, loss and optimizer are checked one after the other, the loss only where model and data can be measured.
    ``measures`` (by default all, with their usual options) each have a forecast of time, from one timed gradient, and
    of memory, from the graphs of a few samples. Nothing is changed, and nothing is raised for what is refused: it is a
    row with what was found and what to do. ``optimizer`` is the live one, whose options and state are read, or a
    function that makes one of the list of trainable parameters.

    Cost: the checks of an :class:`Objective` (about five gradients of 32 samples, and two passes over the data), one
    Hessian product on all data, and two gradients.
    """
    rows: list[CheckRow] = []
    found: list[MeasureRow] = []
    objective = None
    with warnings.catch_warnings(), random_numbers_kept(data):
        warnings.simplefilter("ignore", EdgescopeWarning)  # they are rows
        if is_criterion(loss_fn):
            rows.append(
                CheckRow("loss", "form", "handled", "a criterion, taken of outputs and targets of (inputs, targets)")
            )
            loss_fn = supervised(loss_fn)
        rows += _of_arguments(model, loss_fn)
        if not rows or rows[-1].status != "refused":
            rows += model_rows(model)
            rows += _of_data(model, data)
            usable = not any(row.status == "refused" for row in rows)
            objective = _objective(model, loss_fn, data, rows) if usable else None
            if not usable:
                rows.append(CheckRow("loss", "loss", "not checked", "not evaluated, since something else was refused"))
            if objective is not None:
                rows += _of_loss(objective)
        own = [p for p in unwrapped(model).parameters() if p.requires_grad] if isinstance(model, nn.Module) else []
        live = _live_optimizer(optimizer, own, rows) if own else None
        if live is not None:
            tensors: list[torch.Tensor] = [*own] if objective is None else objective.tensors
            rows += optimizer_rows(live, tensors, objective)
        if objective is None:
            return ProblemReport(tuple(rows), ())
        chosen = [as_measure(m) for m in (MEASURES.names() if measures is None else measures)]
        seconds = 0.0
        try:
            seconds = _gradient_seconds(objective)
            found = list(_forecasts(objective, chosen, seconds, live))
        except EdgescopeError as error:
            rows.append(CheckRow.refused("loss", "gradient", error))
        mode = objective.mode
        report = ProblemReport(tuple(rows), tuple(found), objective.size, objective.samples, seconds, mode)
        objective.release()
    return report


def _live_optimizer(
    optimizer: torch.optim.Optimizer | MakeOptimizer | None, parameters: list[nn.Parameter], rows: list[CheckRow]
) -> torch.optim.Optimizer | None:
    if optimizer is None or isinstance(optimizer, torch.optim.Optimizer):
        return optimizer
    try:
        return optimizer(parameters)
    except EdgescopeError as error:
        rows.append(CheckRow.refused("optimizer", "options", error))
        return None


def _of_arguments(model: Any, loss_fn: Any) -> Iterator[CheckRow]:
    try:
        refuse_options(model, loss_fn, mode="auto", dtype=None, count=None)
    except EdgescopeError as error:
        yield CheckRow.refused("loss" if isinstance(model, nn.Module) else "model", "arguments", error)


def _of_data(model: nn.Module, data: Any) -> Iterator[CheckRow]:
    trained = [p for p in unwrapped(model).parameters() if p.requires_grad]
    if not trained:
        return
    try:
        device = usable_device(trained[0].device)
        batches = Batches(data, count=None, dtype=own_precision(trained), device=device, check=True)
    except EdgescopeError as error:
        yield CheckRow.refused("data", "data", error)
        return
    finding = f"{batches.rows:,} samples in {batches.number:,} batch{'es' * (batches.number != 1)}, all finite"
    yield CheckRow("data", "data", "ok", finding)
    if not batches.repeats:
        finding = "batches are composed differently at every pass, which the mean over all data does not depend on"
        yield CheckRow("data", "order", "handled", finding)


def _objective(model: nn.Module, loss_fn: Any, data: Any, rows: list[CheckRow]) -> Objective | None:
    try:
        return Objective(model, loss_fn, data)
    except EdgescopeError as error:
        rows.append(CheckRow.refused("loss", "loss", error))
        return None


def _of_loss(objective: Objective) -> Iterator[CheckRow]:
    yield CheckRow("loss", "loss", "ok", f"{float(objective.loss()):.6g}, deterministic, of the live model")
    told = objective.notices
    try:
        objective.hvp(torch.ones(objective.size, dtype=objective.dtype, device=objective.device))
        yield CheckRow("loss", "second derivatives", "ok", "they agree with differences of gradients")
    except EdgescopeError as error:
        row = CheckRow.refused("loss", "second derivatives", error)
        yield dataclasses.replace(row, remedy=row.remedy or 'path="difference"')
    try:
        check_mode(objective, lambda kind, text, **options: told.give(kind, text, **options))
    except EdgescopeError as error:
        yield CheckRow.refused("loss", "training mode", error)
    for notice in told:
        status: Status = "caution" if notice.warned else "handled"
        area, name = AREA_OF.get(notice.kind, "loss"), NAMES.get(notice.kind, notice.kind)
        yield CheckRow(area, name, status, notice.finding, notice.hint)


def _gradient_seconds(objective: Objective) -> float:
    w = objective.parameters()
    began = time.perf_counter()
    objective.gradient(w)
    return time.perf_counter() - began


class _CountedVectors(ProblemSize):
    """A problem size that keeps how many bytes a measure asks for, in place of refusing."""

    asked = 0

    def require_vectors(self, owner: str, count: int, hint: str) -> None:
        object.__setattr__(self, "asked", count * self.parameters * self.itemsize)


def _forecasts(
    objective: Objective, measures: list[Measure], seconds: float, optimizer: torch.optim.Optimizer | None
) -> Iterator[MeasureRow]:
    memory = expected_memory(objective)
    size = ProblemSize(objective.size, objective.samples, objective.dtype.itemsize)
    for measure in measures:
        try:
            check_measures([measure], size)
        except EdgescopeError as error:
            yield MeasureRow(measure.name, "refused", finding=error.what, remedy=error.hint)
            continue
        if measure.needs_rule and optimizer is None:
            why = "it is a measure of the optimizer"
            yield MeasureRow(measure.name, "refused", finding=why, remedy="an optimizer")
            continue
        counted = _CountedVectors(size.parameters, size.samples, size.itemsize)
        check_measures([measure], counted)
        expected = forecast_reading(objective, [measure], prepared=True)
        gradients = sum(expected.gradients.values())
        yield MeasureRow(
            measure.name,
            "in a run" if measure.needs_run else "ok",
            gradients,
            seconds * gradients,
            seconds * expected.first,
            _bytes(measure, memory, size) + counted.asked,
            finding=measure.needs_run,
        )


def _bytes(measure: Measure, memory: ExpectedMemory, size: ProblemSize) -> int:
    """Of what is computed; vectors of the measure's own come beside."""
    if measure.needs == "products":
        return memory.product
    if measure.needs in ("gradient", "other points"):
        return memory.gradient
    return size.parameters * size.itemsize if measure.needs == "loss" else 0
