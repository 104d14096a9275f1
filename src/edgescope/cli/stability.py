"""Whether an optimizer is stable at a point: its threshold against the sharpness in its own metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from edgescope.errors import InputError, NotKnownError
from edgescope.linalg import Eigenpairs, Metric, top_eigenpairs
from edgescope.objective import Objective
from edgescope.optim import Threshold, UpdateRule, rule_for
from edgescope.optim.pairs import one_optimizer


@dataclass(frozen=True)
class CandidateOptimizer:
    """An optimizer whose stability is checked, with threshold and metric (None: Euclidean).

    ``unknown`` says why there is no threshold, and is empty where there is one.
    """

    spec: str
    lr: float | None
    rule: UpdateRule | None = None
    threshold: Threshold | None = None
    metric: Metric | None = None
    unknown: str = ""


@dataclass(frozen=True)
class Stability:
    """The verdict with the numbers behind it; ``error`` is an estimated bound on the error of ``sharpness``."""

    optimizer: str
    lr: float | None
    verdict: Literal["stable", "unstable", "at the threshold", "not known"]
    why: str
    threshold: Threshold | None = None
    sharpness: float | None = None
    error: float | None = None
    ratio: float | None = None
    converged: bool | None = None


def candidate(objective: Objective, spec: str, lr: float | None, saved: dict[str, Any] | None) -> CandidateOptimizer:
    """The optimizer that ``spec`` names, on the objective's parameters, with the state ``saved`` in the checkpoint.

    ``lr`` defaults to the saved learning rate. A preconditioner is only ever read from the saved state.
    Raises :class:`InputError` for names, learning rates and states that cannot be used.
    """
    named = one_optimizer(spec)
    if lr is None and saved is not None:
        lr = next((group["lr"] for group in saved["param_groups"] if "lr" in group), None)
    if lr is None and not spec.startswith("gradient-flow"):
        raise InputError(f"optimizer '{spec}' without a learning rate", hint="--lr 0.1")
    rate = None if lr is None else float(lr)
    optimizer = named.build(objective.tensors, lr=1.0 if rate is None else rate)
    try:
        rule = rule_for(optimizer, objective.tensors)
        return CandidateOptimizer(spec, rate, rule, rule.threshold(), _metric(rule, saved))
    except NotKnownError as error:
        return CandidateOptimizer(spec, rate, unknown=str(error))


def stability(
    objective: Objective,
    judged: CandidateOptimizer,
    pairs: Eigenpairs,
    seed: int,
    progress: Callable[[int, float], None] | None = None,
) -> Stability:
    """The verdict on ``judged``. ``pairs`` are eigenpairs of the Hessian, which suffice for a Euclidean metric.

    Cost: none beyond ``pairs`` for a Euclidean metric without weight decay; one more eigenpair otherwise.
    """
    rule, threshold = judged.rule, judged.threshold
    if rule is None or threshold is None:
        return Stability(judged.spec, judged.lr, "not known", judged.unknown)
    top = pairs
    if judged.metric is not None or rule.shift() is not None:
        effective = rule.effective(objective.operator())
        top = top_eigenpairs(effective, 1, metric=judged.metric, seed=seed, progress=progress)
    value, error, converged = float(top.values[0]), float(top.error[0]), bool(top.converged[0])
    verdict: Literal["stable", "unstable", "at the threshold"]
    if abs(value - threshold.value) <= error:
        verdict, relation = "at the threshold", "within its error of"
    elif value > threshold.value:
        verdict, relation = "unstable", "above"
    else:
        verdict, relation = "stable", "below"
    whose = "the sharpness" if judged.metric is None else "the sharpness in the optimizer's own metric"
    why = f"{whose}, {value:.5g}, is {relation} the threshold, {threshold.value:.5g}"
    if not converged:
        why += "; it has not converged and may be larger"
    ratio = value / threshold.value
    return Stability(judged.spec, judged.lr, verdict, why, threshold, value, error, ratio, converged)


def _metric(rule: UpdateRule, saved: dict[str, Any] | None) -> Metric | None:
    try:
        return rule.metric()
    except NotKnownError:
        if saved is None:
            raise NotKnownError(
                f"the checkpoint contains no optimizer state, so the preconditioner of {type(rule.optimizer).__name__}"
                " is not known",
                hint="a checkpoint with the optimizer's state_dict under 'optimizer'",
            ) from None
    _restore(rule, saved)
    return rule.metric()


def _restore(rule: UpdateRule, saved: dict[str, Any]) -> None:
    # The state is the checkpoint's, the options are those that were asked for.
    optimizer = rule.optimizer
    options = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    try:
        optimizer.load_state_dict(saved)
        for group, own in zip(optimizer.param_groups, options, strict=True):
            group.update(own)
        for tensor in rule.tensors:
            for name in rule.vectors():
                value = optimizer.state.get(tensor, {}).get(name)
                if not isinstance(value, torch.Tensor) or value.shape != tensor.shape:
                    raise ValueError(f"no '{name}' of shape {tuple(tensor.shape)} where one is needed")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"the optimizer state in the checkpoint does not fit: {' '.join(str(error).split())}",
            expected=f"one of {type(optimizer).__name__} for the parameters of this model",
        ) from error
