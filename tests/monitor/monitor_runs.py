"""What the tests of the monitor share: a small network, its data, and runs of it that a monitor may watch."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from edgescope.errors import EdgescopeWarning
from edgescope.losses import half_mse, supervised
from edgescope.monitor import Monitor
from edgescope.objective import Objective

LOSS = supervised(half_mse)
STEPS: Final = 7
CALLS: Final = ("after", "twice", "early", "micro", "never")
"""When a loop calls ``monitor.step()``: "early" is before the optimizer's step, "micro" after every backward pass."""


def data(samples: int = 24, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 5, generator=generator).to(dtype), torch.randint(3, (samples,), generator=generator)


def small(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def objective_of(model: nn.Module, batch: Any = None, **more: Any) -> Objective:
    return Objective(model, LOSS, data() if batch is None else batch, path="kept", threads=1, **more)


def backward(model: nn.Module, batch: tuple[Tensor, Tensor] | None = None, factor: float = 1.0) -> Tensor:
    loss = LOSS(model, data() if batch is None else batch)
    (factor * loss).backward()
    return loss.detach()


@contextlib.contextmanager
def noticed(text: str = "") -> Iterator[None]:
    """Inside, what a monitor tells is no error; only what begins so, if a ``text`` is given."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", text, EdgescopeWarning)
        yield


class Run:
    """One training run of a loop, with a monitor that is called as ``call`` says; None: without a monitor.

    ``parameters`` are those after every optimizer step, as the loop itself sees them; ``left`` is all that training
    leaves behind. ``measured`` goes round what a monitor does, for contexts that a user may have entered.
    """

    def __init__(self, call: str | None = "after", every: int = 2, measures: Any = ("loss", "norms")) -> None:
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002
        random.seed(5)
        self.call, self.every, self.measures = call, every, measures
        self.monitor: Monitor | None = None
        self.model: nn.Module = nn.Identity()
        self.optimizers: tuple[torch.optim.Optimizer, ...] = ()
        self.parameters: list[Tensor] = []
        self.draws: list[float] = []
        self.readings: list[Any] = []
        self.step: Callable[[], None] = self._step

    def watch(self, model: nn.Module, *optimizers: Any, batch: Any = None, **more: Any) -> None:
        """Begin to watch."""
        self.model, self.optimizers = model, optimizers
        self.parameters.append(self._flat())
        if self.call is not None:
            objective = objective_of(model, batch, **more)
            given = optimizers[0] if len(optimizers) == 1 else list(optimizers)
            self.monitor = Monitor(objective, given, every=self.every, measures=self.measures)

    def at(self, place: str) -> None:
        """The loop is here: "early", "micro" or "after"."""
        wanted = {"twice": "after"}.get(self.call or "", self.call)
        for _ in range((self.call == "twice") + 1):
            if self.monitor is not None and wanted == place:
                self.step()

    def _step(self) -> None:
        assert self.monitor is not None
        found = self.monitor.step()
        if found is not None:
            self.readings.append(found)

    def stepped(self) -> None:
        """The step of the optimizer is over, with whatever the loop does to the parameters after it."""
        self.parameters.append(self._flat())
        self.at("after")
        self.draws += [float(torch.rand(())), random.random(), float(np.random.rand())]  # noqa: NPY002

    def left(self) -> dict[str, Any]:
        """Everything that training leaves behind."""
        found: dict[str, Any] = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        for name, p in self.model.named_parameters():
            found[f"grad.{name}"] = p.grad
        for k, optimizer in enumerate(self.optimizers):
            found |= {f"optimizer.{k}": optimizer.state_dict()}
        found["modes"] = [part.training for part in self.model.modules()]
        found["draws"], found["parameters"] = self.draws, self.parameters
        found["threads"], found["dtype"] = torch.get_num_threads(), torch.get_default_dtype()
        return found

    def _flat(self) -> Tensor:
        return torch.cat([p.detach().reshape(-1).double() for p in self.model.parameters()])


CHEAP: Final = (
    *("loss", "norms", "gradient_norm", "learning_rate", "time", "threshold", "step_ratio", "directional_smoothness"),
)


def dense_hessian(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The Hessian of the half mean squared error in float64, by torch's own function of whole matrices."""
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    pieces = [p.detach().double() for _, p in model.named_parameters() if p.requires_grad]
    inputs, onehot = batch[0].double(), nn.functional.one_hot(batch[1], 3).double()

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([piece.numel() for piece in pieces])
        own = {name: part.view_as(piece) for name, part, piece in zip(names, parts, pieces, strict=True)}
        outputs = torch.func.functional_call(model, own, (inputs,))
        return 0.5 * (outputs - onehot).square().sum(-1).mean()

    flat = torch.cat([piece.reshape(-1) for piece in pieces])
    return torch.autograd.functional.hessian(loss, flat)
