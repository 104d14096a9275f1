"""A network small enough for its dense Hessian, and moments of a run on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgescope.errors import EdgescopeError
from edgescope.losses import half_mse, supervised
from edgescope.measures import Moment
from edgescope.objective import Objective
from edgescope.optim import rule_for


class Problem:
    """A tanh network with 51 parameters on 20 training and 12 test samples."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float64, linear: bool = False) -> None:
        torch.manual_seed(seed)
        layers = [nn.Linear(4, 3)] if linear else [nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)]
        self.model = nn.Sequential(*layers).to(dtype)
        self.data = torch.randn(20, 4, dtype=dtype), torch.randint(3, (20,))
        self.test_data = torch.randn(12, 4, dtype=dtype), torch.randint(3, (12,))
        self.objective, self.test = (
            Objective(self.model, supervised(half_mse), data, path="kept", threads=1)
            for data in (self.data, self.test_data)
        )
        self.initial = self.objective.parameters()

    def flat(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()])

    def loss_at(self, w: Tensor, data: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """The loss in float64 as plain torch writes it, differentiable any number of times."""
        inputs, targets = self.data if data is None else data
        named, start = {}, 0
        for name, p in self.model.named_parameters():
            named[name] = w[start : start + p.numel()].view(p.shape)
            start += p.numel()
        outputs = torch.func.functional_call(self.model, named, (inputs.double(),))
        return 0.5 * (outputs - nn.functional.one_hot(targets, 3)).square().sum() / len(inputs)

    def hessian(self) -> Tensor:
        return torch.autograd.functional.hessian(self.loss_at, self.flat().double())

    def train(self, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            self.objective.loss_fn(self.model, self.data).backward()
            optimizer.step()

    def moment(self, optimizer: torch.optim.Optimizer | None = None, step: int = 0, **more: Any) -> Moment:
        rule, why = None, "there is no optimizer"
        if optimizer is not None:
            try:
                rule, why = rule_for(optimizer, self.objective.tensors), ""
            except EdgescopeError as error:
                why = str(error)
        return Moment(
            step=step,
            objective=self.objective,
            optimizer=optimizer,
            rule=rule,
            parameters=self.objective.parameters(),
            initial=self.initial,
            evaluations={"test": self.test},
            why_no_rule=why,
            **more,
        )
