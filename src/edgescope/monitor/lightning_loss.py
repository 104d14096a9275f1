"""The training loss of a Lightning module as a function of module and batch, with nothing of it left behind."""

from __future__ import annotations

import collections
import contextlib
import copy
import inspect
import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from edgescope.errors import InputError
from edgescope.extras import load

CONTAINERS = (list, dict, set, collections.deque, collections.defaultdict, collections.OrderedDict)
"""Attributes of these classes may be appended to in ``training_step``."""


def loss_of_training_step(trainer: Any) -> Callable[[Any, Any], Tensor]:
    """``loss_fn(module, batch)``: what ``training_step`` returns, or gives to ``manual_backward``.

    Inside, ``log`` and the loggers do nothing, metrics and containers of the module are copies, and what was compiled
    runs as it was written. Steps of optimizers are refused; with manual optimization those of ``self.optimizers()`` do
    nothing.

    Raises :class:`InputError` where a batch has no loss, or several different ones.
    """
    compared: list[bool] = []  # once is enough, where values can be looked at

    def loss_fn(module: Any, batch: Any) -> Tensor:
        if module.automatic_optimization:
            return _returned_loss(module, trainer, batch)
        losses = _manual_losses(module, trainer, batch)
        if not losses:
            raise InputError(
                "training_step of manual optimization has called manual_backward with no loss",
                hint="loss_fn=lambda module, batch: ... with the loss to measure",
            )
        if len(losses) > 1 and not compared:
            values = [float(loss.detach()) for loss in losses]
            if not all(math.isclose(value, values[0], rel_tol=1e-5) for value in values):
                raise InputError(
                    f"training_step has {len(values)} different losses, of {', '.join(f'{v:.4g}' for v in values)}",
                    expected="one function whose curvature is measured",
                    hint="loss_fn=lambda module, batch: ... with one of them, and params= with what it trains",
                )
            compared.append(True)
        return losses[0]

    return loss_fn


def _returned_loss(module: Any, trainer: Any, batch: Any) -> Tensor:
    with _nothing_left_behind(module, trainer) as parts:
        found = _called(parts["training_step"], batch)
    if isinstance(found, dict):
        found = found.get("loss")
    if not isinstance(found, Tensor):
        raise InputError(
            f"training_step returns {'nothing' if found is None else type(found).__name__}",
            expected="the loss of the batch, or a dict with it as 'loss'",
            hint="loss_fn=lambda module, batch: ... with the loss to measure",
        )
    return found


def _manual_losses(module: Any, trainer: Any, batch: Any) -> list[Tensor]:
    losses: list[Tensor] = []
    with _nothing_left_behind(module, trainer) as parts:
        vars(module).update(
            manual_backward=lambda loss, *_, **__: losses.append(loss),
            optimizers=lambda *_, **__: _one_or_all([_NoSteps(one) for one in trainer.optimizers]),
            lr_schedulers=lambda *_, **__: _one_or_all(
                [_NoSchedule(c.scheduler) for c in trainer.lr_scheduler_configs]
            ),
            clip_gradients=_nothing,
            toggle_optimizer=_nothing,
            untoggle_optimizer=_nothing,
            toggled_optimizer=lambda *_, **__: contextlib.nullcontext(),
        )
        _called(parts["training_step"], batch)
    return losses


@contextlib.contextmanager
def _nothing_left_behind(module: Any, trainer: Any) -> Iterator[dict[str, Any]]:
    """Inside, ``module`` reports to nobody; gives its ``training_step``, as it was written.

    Afterwards it has its former attributes.
    """
    metric = load("torchmetrics").Metric
    kept = {
        id(part): (part, dict(vars(part))) for part in module.modules() if part is module or isinstance(part, metric)
    }
    compiled = getattr(module, "_compiler_ctx", None) or {}
    loggers = trainer.loggers
    handles = [one.register_step_pre_hook(_refuse) for one in trainer.optimizers]
    try:
        for part, attributes in kept.values():
            names = part._defaults if part is not module else ()
            for name, value in attributes.items():
                if name in names or (type(value) in CONTAINERS and not name.startswith("_")):
                    vars(part)[name] = copy.deepcopy(value) if name in names else copy.copy(value)
        vars(module).update(log=_nothing, log_dict=_nothing, _trainer=trainer)
        if "original_forward" in compiled:
            vars(module).update(forward=compiled["original_forward"], training_step=compiled["original_training_step"])
        if loggers:
            trainer.loggers = [load("lightning.pytorch.loggers.logger").DummyLogger()]
        yield {"training_step": module.training_step}
    finally:
        for handle in handles:
            handle.remove()
        trainer.loggers = loggers
        for part, attributes in kept.values():
            vars(part).clear()
            vars(part).update(attributes)


def _called(training_step: Callable[..., Any], batch: Any) -> Any:
    """The result of ``training_step`` on a batch, which is the first one where it asks for a number."""
    names = list(inspect.signature(training_step).parameters)
    if "dataloader_iter" in names:
        raise InputError(
            "training_step takes an iterator of data",
            expected="one that takes a batch",
            hint="loss_fn=lambda module, batch: ... with the loss of a batch",
        )
    if len(names) < 2:
        return training_step(batch)
    return training_step(batch, 0)


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _refuse(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    raise InputError(
        f"training_step calls the step of {type(optimizer).__name__} itself",
        expected="self.optimizers(), so that a measurement can leave steps out",
        hint="loss_fn=lambda module, batch: ... with the loss to measure",
    )


def _one_or_all(found: list[Any]) -> Any:
    return found[0] if len(found) == 1 else found


class _NoSteps:
    """An optimizer whose step is not taken; a closure is called, as it has the loss."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.param_groups, self.state, self.defaults = optimizer.param_groups, optimizer.state, optimizer.defaults

    def step(self, closure: Callable[[], Any] | None = None, **_: Any) -> Any:
        return None if closure is None else closure()

    def zero_grad(self, *_: Any, **__: Any) -> None:
        pass

    def toggle_model(self, *_: Any, **__: Any) -> Any:
        return contextlib.nullcontext()


class _NoSchedule(SimpleNamespace):
    """A scheduler whose step is not taken."""

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler=scheduler)

    def step(self, *_: Any, **__: Any) -> None:
        pass

    def get_last_lr(self) -> list[float]:
        found: list[float] = self.scheduler.get_last_lr()
        return found
