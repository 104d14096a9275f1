"""Data, model, loss and optimizer built from a configuration."""

from __future__ import annotations

from typing import Any, cast

import torch

from edgescope.data import DATA
from edgescope.errors import InputError
from edgescope.losses import LOSSES, supervised
from edgescope.measures.problem_size import ProblemSize, check_measures
from edgescope.models import MODELS, parameter_count
from edgescope.monitor.monitor import in_order
from edgescope.objective import Objective
from edgescope.objective.checks import as_loss, usable_device
from edgescope.objective.modes import Mode
from edgescope.optim import GradientFlow, plan_optimizers
from edgescope.training.config import OWNER, RunConfig
from edgescope.training.decay_schedules import DECAY_SCHEDULES
from edgescope.training.gradients import has_batch_statistics, has_dropout
from edgescope.training.own import made_by


class Parts:
    """Data, model, loss function and optimizers of a configuration; InputError where they do not fit together.

    ``samples`` and ``test_samples`` are pairs of inputs and targets, or whatever a function of the user's gave (None
    where it gave no test data). ``stop_loss`` is that of the configuration, or else of the function. ``like`` are parts
    of a configuration with the same data, which are shared. ``optimizer`` is the first of ``optimizers``. Gradient flow
    trains without dropout, as its loss must be a function of the parameters. ``from_objective`` says that a training
    step takes its gradient from the objective, ``mode`` how that is measured. With batch statistics and mini-batches
    the objective is the mean over batches of the size that training takes. Model and samples are on the device of the
    configuration, where it names one; InputError where that is not on this machine.
    """

    def __init__(self, config: RunConfig, like: Parts | None = None) -> None:
        self.config = config
        device = None if config.device is None else usable_device(config.device)
        self.samples: Any
        self.test_samples: Any
        if config.function is None:
            dtype = getattr(torch, config.dtype)
            data = like.data if like else DATA.build(config.data, train=config.train, test=config.test).load()
            self.data: Any = data
            if like is not None:
                self.samples, self.test_samples = like.samples, like.test_samples
            else:
                both = (x.to(dtype) if x.is_floating_point() else x for x in (data.inputs, data.test_inputs))
                self.samples, self.test_samples = zip(both, (data.targets, data.test_targets), strict=True)
            self.model = MODELS.build(config.model).build(data.input_shape, data.classes, config.seed).to(dtype)
            self.loss_fn: Any = supervised(LOSSES.build(config.loss))
            self.stop_loss: float | None = config.stop_loss
        else:
            own = made_by(config.function, config.seed)
            self.model, self.loss_fn = own.model, as_loss(own.loss_fn)
            self.samples, self.test_samples = own.data, own.test
            self.stop_loss = own.stop_loss if config.stop_loss is None else config.stop_loss
        if device is not None:
            self.model = self.model.to(device)
            if like is None or config.function is not None:
                self.samples, self.test_samples = (_moved(part, device) for part in (self.samples, self.test_samples))
        self._check_sizes()
        self.optimizers = plan_optimizers(config.optimizer).build(self.model.parameters(), lr=config.lr)
        DECAY_SCHEDULES.build(config.decay_schedule).apply(self.optimizers, 0)
        self.optimizer = self.optimizers[0]
        statistics, dropout = has_batch_statistics(self.model), has_dropout(self.model)
        flow = isinstance(self.optimizer, GradientFlow)
        self.from_objective = config.batch is None and not statistics and (flow or not dropout)
        self.mode = cast(Mode, config.mode)
        self._in_batches = statistics and config.batch is not None
        if flow and config.batch is not None:
            raise InputError("gradient flow with mini-batches", expected="the full batch")

        if not self.from_objective and not is_pair(self.samples):
            raise InputError(
                f"data of type {type(self.samples).__name__} for mini-batches, dropout or batch statistics",
                expected="a pair of tensors (inputs, targets)",
                hint="the tensors themselves, or the full batch of a model without dropout and batch statistics",
            )

    def _check_sizes(self) -> None:
        """Raise InputError for a batch or a measure that is too large for the data or the model."""
        count = len(self.samples[0]) if is_pair(self.samples) else None
        trained = next((p for p in self.model.parameters() if p.requires_grad), None)
        itemsize = 4 if trained is None else trained.element_size()
        size = ProblemSize(parameter_count(self.model), count, itemsize)
        size.fits_samples(OWNER, "batch", self.config.batch)
        check_measures(in_order(self.config.measures)[0], size)

    def evaluations(self, **how: Any) -> dict[str, Objective]:
        """The objective on the test data, by the name "test"; empty without test data."""
        return {} if self.test_samples is None else {"test": self.objective(self.test_samples, "eval", **how)}

    def objective(self, samples: Any, mode: Mode, **how: Any) -> Objective:
        """The loss of the model on ``samples``; ``how`` are further arguments of :class:`Objective`."""
        if samples is self.samples and self._in_batches:
            samples = list(zip(*(part.split(self.config.batch) for part in samples), strict=True))
        return Objective(self.model, self.loss_fn, samples, mode=mode, **how)


def _moved(data: Any, device: torch.device) -> Any:
    """A pair of tensors on ``device``; other data as they are, whose batches an objective moves one by one."""
    return type(data)(part.to(device) for part in data) if is_pair(data) else data


def is_pair(data: Any) -> bool:
    """Whether ``data`` are inputs and targets, two tensors."""
    return isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(part, torch.Tensor) for part in data)
