"""What is known of an optimizer: its update rule, its stability threshold, and the parameters that it holds."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from edgescope.errors import EdgescopeError
from edgescope.measures.rules import ids_of
from edgescope.monitor.checks import check_other_parameters, check_parameters_without_optimizer
from edgescope.notices import Notices
from edgescope.objective import Objective
from edgescope.optim import rule_for
from edgescope.optim.unwrap import unwrapped
from edgescope.tuning.problem_report import CheckRow, Status

HEADROOM = "the measure headroom, which needs no rule"


def optimizer_rows(
    optimizer: torch.optim.Optimizer, tensors: list[torch.Tensor], objective: Objective | None
) -> Iterator[CheckRow]:
    """A row for its rule, its threshold, and for what it does not hold; ``objective`` where there is one. No cost."""
    name = type(optimizer).__name__
    inner = unwrapped(optimizer)
    if inner is not optimizer:
        yield CheckRow("optimizer", "wrappers", "handled", f"the {type(inner).__name__} inside {name} is measured")
    try:
        rule = rule_for(inner, tensors)
        yield CheckRow("optimizer", "update rule", "ok", f"that of {type(inner).__name__} is known")
    except EdgescopeError as error:
        yield CheckRow("optimizer", "update rule", "refused", error.what, error.hint or HEADROOM)
        return
    try:
        threshold = rule.threshold()
        status: Status = "caution" if threshold.caveat else "ok"
        found = f"{threshold.formula} = {threshold.value:.4g}"
        if threshold.caveat:
            found += f"; no border of stability: {threshold.caveat}"
        yield CheckRow("optimizer", "threshold", status, found)
    except EdgescopeError as error:
        yield CheckRow("optimizer", "threshold", "refused", error.what, error.hint or HEADROOM)
    if objective is not None:
        yield from _held(optimizer, objective)


def _held(optimizer: torch.optim.Optimizer, objective: Objective) -> Iterator[CheckRow]:
    told = Notices()

    def notify(kind: str, text: str, *, faq: str, hint: str = "", cause: str = "") -> None:
        told.give(kind, text, faq=faq, hint=hint, cause=cause, warn=False)

    check_parameters_without_optimizer(objective, ids_of(optimizer), notify)
    every = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    check_other_parameters(objective, every, {id(t) for t in objective.tensors}, notify)
    if not told.given():
        yield CheckRow("optimizer", "parameters", "ok", "it holds all parameters of the objective, and no others")
    for notice in told:
        yield CheckRow("optimizer", "parameters", "caution", notice.finding, notice.hint)
