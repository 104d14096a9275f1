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


class Parts:
    """Data, model, loss function and optimizer of a configuration; InputError where they do not fit together.

    ``from_objective`` says that a training step takes its gradient from the objective, ``mode`` how that is measured.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        dtype = getattr(torch, config.dtype)
        data = DATA.build(config.data, train=config.train, test=config.test).load()
        inputs, test_inputs = (x.to(dtype) if x.is_floating_point() else x for x in (data.inputs, data.test_inputs))
        self.samples, self.test_samples = (inputs, data.targets), (test_inputs, data.test_targets)
        self.model = MODELS.build(config.model).build(data.input_shape, data.classes, config.seed).to(dtype)
        self.loss_fn = supervised(LOSSES.build(config.loss))
        self.optimizer = OPTIMIZERS.build(config.optimizer).build(self.model.parameters(), lr=config.lr)
        statistics, dropout = has_batch_statistics(self.model), has_dropout(self.model)
        self.from_objective = config.batch is None and not statistics and not dropout
        self.mode: Mode = "train" if config.batch is None and statistics and not dropout else "eval"
        if isinstance(self.optimizer, GradientFlow) and not self.from_objective:
            raise InputError(
                "gradient flow with mini-batches, dropout or batch statistics",
                expected="the full batch of a model that is the same function in training",
            )

    def objective(self, samples: tuple[torch.Tensor, torch.Tensor], mode: Mode, **how: Any) -> Objective:
        """The loss of the model on ``samples``; ``how`` are further arguments of :class:`Objective`."""
        return Objective(self.model, self.loss_fn, samples, mode=mode, **how)
