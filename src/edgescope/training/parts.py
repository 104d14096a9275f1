"""What a configuration names, built: data, model, loss, optimizer."""

from __future__ import annotations

from typing import Any

import torch

from edgescope.data import DATA
from edgescope.errors import InputError
from edgescope.losses import LOSSES, supervised
from edgescope.models import MODELS
from edgescope.objective import Objective
from edgescope.objective.modules import Mode
from edgescope.optim import OPTIMIZERS, GradientFlow
from edgescope.training.config import RunConfig
from edgescope.training.gradients import has_batch_statistics, has_dropout
from edgescope.training.own import made_by


class Parts:
    """Data, model, loss function and optimizer of a configuration; InputError where they do not fit together.

    ``samples`` and ``test_samples`` are pairs of inputs and targets, or whatever a function of the user's gave (None
    where it gave no test data). ``stop_loss`` is that of the configuration, or else of the function. ``like`` are parts
    of a configuration with the same data, which are shared. ``from_objective`` says that a training step takes its
    gradient from the objective, ``mode`` how that is measured.
    """

    def __init__(self, config: RunConfig, like: Parts | None = None) -> None:
        self.config = config
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
            self.model, self.loss_fn = own.model, own.loss_fn
            self.samples, self.test_samples = own.data, own.test
            self.stop_loss = own.stop_loss if config.stop_loss is None else config.stop_loss
        self.optimizer = OPTIMIZERS.build(config.optimizer).build(self.model.parameters(), lr=config.lr)
        statistics, dropout = has_batch_statistics(self.model), has_dropout(self.model)
        self.from_objective = config.batch is None and not statistics and not dropout
        self.mode: Mode = "train" if config.batch is None and statistics and not dropout else "eval"
        if isinstance(self.optimizer, GradientFlow) and (config.batch is not None or dropout):
            raise InputError(
                "gradient flow with mini-batches or dropout",
                expected="the full batch, and a loss that is a function of the parameters alone",
            )

        if not self.from_objective and not _is_pair(self.samples):
            raise InputError(
                f"data of type {type(self.samples).__name__} for mini-batches, dropout or batch statistics",
                expected="a pair of tensors (inputs, targets)",
                hint="the full batch of a model without them",
            )

    def evaluations(self, **how: Any) -> dict[str, Objective]:
        """The loss on the test data, "test", where there are any."""
        return {} if self.test_samples is None else {"test": self.objective(self.test_samples, "eval", **how)}

    def objective(self, samples: Any, mode: Mode, **how: Any) -> Objective:
        """The loss of the model on ``samples``; ``how`` are further arguments of :class:`Objective`."""
        return Objective(self.model, self.loss_fn, samples, mode=mode, **how)


def _is_pair(data: Any) -> bool:
    return isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(part, torch.Tensor) for part in data)
