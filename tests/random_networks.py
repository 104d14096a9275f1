"""Small random networks with their dense float64 Hessians, for everything that states an error."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp, vmap

import edgescope as es
from edgescope.losses import cross_entropy, half_mse

LOSSES = {"cross-entropy": cross_entropy, "half-MSE": half_mse}
ACTIVATIONS = (nn.Tanh, nn.ReLU, nn.GELU, nn.Softplus)
STAGES = ("start", "trained", "saturated")
LEAST, MOST = 30, 220  # parameters
TINY = ((1, 1, 2), (2, 1, 2), (3, 1, 2), (1, 2, 2), (1, 1, 3))  # widths with 6 to 10 parameters


class RandomNetwork:
    """A network whose size, precision, loss, activation and training are drawn by ``number``.

    It has 30 to 220 parameters (``tiny``: 6 to 10). ``objective`` is measured in the network's own precision; ``exact``
    is the same in float64, at the same parameters, and ``hessian`` its dense matrix. A saturated network has fitted
    labels that a linear teacher gave; a trained one has taken 5 to 100 steps on random labels.
    """

    def __init__(self, number: int, *, tiny: bool = False) -> None:
        draw = np.random.default_rng(number)
        torch.manual_seed(number)
        widths = TINY[draw.integers(len(TINY))] if tiny else (0,)
        while not tiny and not LEAST <= sum((a + 1) * b for a, b in itertools.pairwise(widths)) <= MOST:
            hidden = draw.integers(2, 13, size=draw.integers(1, 3)).tolist()
            widths = (int(draw.integers(2, 10)), *hidden, int(draw.integers(2, 6)))
        self.number = number
        self.dtype = (torch.float32, torch.float64)[draw.integers(2)]
        self.loss = tuple(LOSSES)[draw.integers(2)]
        self.activation = ACTIVATIONS[draw.integers(len(ACTIVATIONS))]
        self.stage = STAGES[draw.integers(len(STAGES))]
        layers = [piece for pair in itertools.pairwise(widths) for piece in (nn.Linear(*pair), self.activation())]
        self.model = nn.Sequential(*layers[:-1]).to(self.dtype)
        x = torch.randn(int(draw.integers(8, 50)), widths[0], dtype=self.dtype)
        teacher = x @ torch.randn(widths[0], widths[-1], dtype=self.dtype)
        random = torch.randint(widths[-1], (len(x),))
        self.data = x, teacher.argmax(1) if self.stage == "saturated" else random
        self.criterion = LOSSES[self.loss]
        if self.stage == "trained":
            self.descend(torch.optim.SGD(self.model.parameters(), lr=0.3), int(draw.integers(5, 100)))
        elif self.stage == "saturated":
            self.descend(torch.optim.Adam(self.model.parameters(), lr=0.1), 100)
        self.size = sum(p.numel() for p in self.model.parameters())
        self.objective, self.exact = self.measured_in(self.dtype), self.measured_in(torch.float64)

    def measured_in(self, dtype: torch.dtype, l2: float = 0.0) -> es.Objective:
        loss = es.supervised(self.criterion)
        return es.Objective(
            self.model, loss, self.data, dtype=dtype, l2=l2, path="kept", threads=1, chunk=64, check=False
        )

    def descend(self, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            self.criterion(self.model(self.data[0]), self.data[1]).backward()
            optimizer.step()

    def loss_at(self, w: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """The loss at a flat vector of parameters by plain torch, in its precision."""
        names, sizes = zip(*((name, p.numel()) for name, p in self.model.named_parameters()), strict=True)
        pieces = dict(zip(names, torch.split(w, sizes), strict=True))
        shaped = {name: pieces[name].view(p.shape) for name, p in self.model.named_parameters()}
        return self.criterion(functional_call(self.model, shaped, (inputs,)), targets)

    @functools.cached_property
    def hessian(self) -> Tensor:
        return self.present_hessian()

    def present_hessian(self) -> Tensor:
        """Of the parameters that the model has now, by plain torch in float64."""
        w, inputs, targets = self.exact.parameters(), self.data[0].double(), self.data[1]
        _, product = vjp(grad(lambda w: self.loss_at(w, inputs, targets)), w)
        return vmap(product)(torch.eye(self.size, dtype=torch.float64))[0]

    @functools.cached_property
    def eigenvalues(self) -> Tensor:
        """Of the float64 Hessian, ascending."""
        return torch.linalg.eigvalsh(self.hessian)


@functools.cache
def _network(number: int, tiny: bool) -> RandomNetwork:
    return RandomNetwork(number, tiny=tiny)


def networks(count: int, *, tiny: bool = False) -> list[RandomNetwork]:
    """The first ``count`` of them, made once in a process."""
    return [_network(number, tiny) for number in range(count)]


def moment(network: RandomNetwork) -> es.measures.Moment:
    w = network.objective.parameters()
    return es.measures.Moment(0, network.objective, None, None, w, w)
