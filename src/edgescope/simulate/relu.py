"""SAM, label-noise SGD and SGD with batch size 1 on two- and three-layer ReLU networks, in compiled code."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from edgescope.errors import InputError
from edgescope.losses import Logistic, Loss, SquaredError
from edgescope.models.shallow import ShallowNetwork
from edgescope.models.simplified_norm import SimplifiedBatchNorm, SimplifiedLayerNorm
from edgescope.options import checked, integer, optional, real
from edgescope.simulate.relu_batchnorm import train_batchnorm
from edgescope.simulate.relu_steps import train_three_layers, train_two_layers

_BLOCK = 100_000
"""Steps for which samples are drawn, and which one call of compiled code takes."""

_MOMENTS = 10**8
"""The largest number of entries of the second moments that batch normalisation keeps: 0.8 GB."""

_PADDED = 8
"""Columns are padded to a multiple of this, so that vectorised loops need no remainder."""


class ReluDescent:
    """Training of one network on single samples, drawn uniformly with replacement.

    The steps equal those of the PyTorch optimizers: with ``rho``, :class:`edgescope.optim.SAM` around SGD with batch
    size 1 (Foret et al. 2021); with ``sigma`` or ``flip``, :class:`edgescope.optim.LabelNoiseSGD` (Blanc et al. 2020);
    with none of them, SGD.

    Args:
        model: a :class:`ShallowNetwork` of two layers, or of three layers of equal width without normalisation, with
            relu or softplus and one output. It is copied and not changed. Batch normalisation is over the whole
            training set, as in ``normalize_over``, and is compiled for relu only.
        x: inputs (n, d).
        y: targets (n,) or (n, 1).
        lr: learning rate.
        rho: perturbation radius of SAM.
        sigma: the targets are changed by plus or minus this, with equal probability.
        flip: probability with which the sign of a target is flipped.
        weight_decay: coupled weight decay.
        loss: :class:`SquaredError`, (f - y)^2 **without the factor 1/2** (the default), or :class:`Logistic`.
        seed: objects with equal seeds see the same samples and noise, however the steps are split into calls.

    Everything is float64. Raises :class:`InputError` for networks that are not compiled, for radii and learning rates
    that are not positive, for both kinds of noise at once and for data that do not fit the network.

    Cost: 4 to 8 microseconds a step for width 500 in 30 dimensions (softplus: about 10; three layers: 5 products with
    the middle layer). Batch normalisation: about 0.6 microseconds for every active neuron (half of them at first),
    since each has a gradient through its mean over all samples; a (d + 1) x (d + 1) matrix is kept for each neuron.
    """

    @checked(
        lr=real(above=0),
        rho=optional(real(above=0)),
        sigma=optional(real(above=0)),
        flip=optional(real(above=0, below=1)),
        weight_decay=real(least=0),
    )
    def __init__(
        self,
        model: ShallowNetwork,
        x: Float[Tensor | np.ndarray, "n d"],
        y: Float[Tensor | np.ndarray, " n *one"],
        *,
        lr: float,
        rho: float | None = None,
        sigma: float | None = None,
        flip: float | None = None,
        weight_decay: float = 0.0,
        loss: Loss | None = None,
        seed: int = 0,
    ) -> None:
        if sigma is not None and flip is not None:
            raise InputError("label noise with both sigma and flip", expected="one of the two")
        self.lr, self.rho, self.sigma, self.flip, self.weight_decay = lr, rho, sigma, flip, weight_decay
        self.loss = SquaredError() if loss is None else loss
        self._smoothing = _smoothing(self.loss)
        self.network = copy.deepcopy(_compiled(model)).double()
        self._inputs, self._targets = self._data(x, y)
        self._first, self._rest = self._weights()
        self._samples, self._noise = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
        self.steps = 0

    @checked(steps=integer(0))
    def advance(self, steps: int) -> ReluDescent:
        """Take ``steps`` more steps; returns this object, whose ``network`` then has the new weights."""
        while steps > 0:
            block = min(steps, _BLOCK)
            steps -= block
            # One number is drawn for each step from each stream, so that it does not matter where a call ends.
            order = (self._samples.random(block) * len(self._inputs)).astype(np.int64)
            targets, chances = self._targets[order], self._noise.random(block)
            if self.sigma is not None:
                targets = targets + self.sigma * np.where(chances < 0.5, -1.0, 1.0)
            elif self.flip is not None:
                targets = np.where(chances < self.flip, -targets, targets)
            self.train_on(order, targets)
        return self

    def train_on(self, order: Int[np.ndarray, " t"], targets: Float[np.ndarray, " t"]) -> ReluDescent:
        """Take one step on each sample of ``order`` (indices of rows of ``x``), with these ``targets``."""
        order = np.ascontiguousarray(order, dtype=np.int64)
        targets = np.ascontiguousarray(targets, dtype=np.float64)
        if order.ndim != 1 or order.shape != targets.shape or (order.size and not _within(order, len(self._inputs))):
            raise InputError(
                f"steps on samples of shape {order.shape} with targets of shape {targets.shape}",
                expected=f"as many targets as samples, which are indices below {len(self._inputs)}",
            )
        weights: tuple[Any, ...] = (self._first, *self._rest)
        how: tuple[Any, ...] = (
            self._inputs,
            order,
            targets,
            self.lr,
            self.rho or 0.0,
            self.weight_decay,
            self._smoothing,
        )
        smooth = isinstance(self.network.activation, nn.Softplus)
        norm = self.network.norm
        if isinstance(norm, SimplifiedBatchNorm):
            train_batchnorm(*weights, *how)
        elif len(self._layers) == 2:
            train_three_layers(*weights, *how, smooth)
        else:
            epsilon = norm.epsilon if isinstance(norm, SimplifiedLayerNorm) else 0.0
            train_two_layers(*weights, *how, smooth, epsilon)
        self.steps += len(order)
        self._write()
        return self

    @property
    def finite(self) -> bool:
        """Whether all weights are finite."""
        return all(bool(np.isfinite(part).all()) for part in (self._first, *self._rest))

    def state(self) -> dict[str, Any]:
        """The state from which :meth:`load_state` continues bit for bit."""
        parts = {f"rest{number}": torch.from_numpy(part.copy()) for number, part in enumerate(self._rest)}
        streams = {name: _as_text(getattr(self, f"_{name}")) for name in ("samples", "noise")}
        return {"steps": self.steps, "first": torch.from_numpy(self._first.copy()), **parts, **streams}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a result of :meth:`state`."""
        self.steps = int(state["steps"])
        self._first[:] = state["first"].numpy()
        for number, part in enumerate(self._rest):
            part[:] = state[f"rest{number}"].numpy()
        for name in ("samples", "noise"):
            stream = getattr(self, f"_{name}").bit_generator
            numbers = dict(zip(("state", "inc"), map(int, state[name].split()), strict=True))
            stream.state = {**stream.state, "state": numbers}
        self._write()

    def _data(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        inputs, targets = (np.asarray(torch.as_tensor(v).detach().cpu().double()) for v in (x, y))
        targets = targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets
        size = self._layers[0].in_features
        if inputs.ndim != 2 or inputs.shape[1] != size or targets.shape != inputs.shape[:1] or inputs.size == 0:
            raise InputError(
                f"inputs of shape {inputs.shape} with targets of shape {targets.shape}",
                expected=f"(n, {size}) and (n,), n > 0",
            )
        for name, values in (("inputs", inputs), ("targets", targets)):
            if not bool(np.isfinite(values).all()):
                raise InputError(f"{name} with values that are NaN or infinite")
        if self._smoothing >= 0 and not bool((np.abs(targets) == 1).all()):
            raise InputError("the logistic loss with targets other than -1 and 1", expected="targets of -1 and 1")
        if isinstance(self.network.norm, SimplifiedBatchNorm):
            if len(inputs) < 2:
                raise InputError("batch normalisation over a batch of 1", expected="at least 2 samples")
            width = self._layers[0].out_features
            if width * size**2 > _MOMENTS:
                raise InputError(
                    f"a simulation of batch normalisation of {width} neurons in {size} dimensions",
                    expected=f"width d^2 up to {_MOMENTS:,}",
                    hint="SAM itself",
                )
            self.network.normalize_over(torch.from_numpy(inputs))
        ones = np.full((len(inputs), 1), 0.0 if self._layers[0].bias is None else 1.0)
        return _padded(np.hstack([inputs, ones])), targets

    @property
    def _layers(self) -> list[nn.Linear]:
        return cast(list[nn.Linear], list(self.network.layers))

    def _tensors(self) -> list[Tensor]:
        """All weights but those of the first layer, in the order in which compiled functions take them."""
        tensors: list[Tensor] = [layer.weight for layer in self._layers[1:]]
        if isinstance(self.network.norm, SimplifiedBatchNorm):
            tensors.append(self.network.norm.weight)
        return [*tensors, self.network.head.weight[0]]

    def _weights(self) -> tuple[np.ndarray, list[np.ndarray]]:
        first = self._layers[0]
        bias = torch.zeros(first.out_features) if first.bias is None else first.bias
        weights = torch.cat([first.weight, bias[:, None]], 1).detach().numpy()
        return _padded(weights), [tensor.detach().numpy().copy() for tensor in self._tensors()]

    def _write(self) -> None:
        """Copy the weights into the network."""
        first = self._layers[0]
        size = first.in_features
        with torch.no_grad():
            first.weight.copy_(torch.from_numpy(self._first[:, :size]))
            if first.bias is not None:
                first.bias.copy_(torch.from_numpy(self._first[:, size]))
            for tensor, part in zip(self._tensors(), self._rest, strict=True):
                tensor.copy_(torch.from_numpy(part))


def advance_together(descents: Sequence[ReluDescent], steps: int, threads: int | None = None) -> None:
    """Advance all simulations by ``steps`` steps, in ``threads`` threads (None: one for each core).

    The results do not depend on the number of threads.
    """
    threads = threads or os.cpu_count() or 1
    if threads == 1 or len(descents) == 1:
        for descent in descents:
            descent.advance(steps)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda descent: descent.advance(steps), descents))


def _compiled(model: nn.Module) -> ShallowNetwork:
    if not isinstance(model, ShallowNetwork):
        raise InputError(f"a simulation of a {type(model).__name__}", expected="a ShallowNetwork", hint="SAM itself")
    depth, smooth = len(model.layers) + 1, isinstance(model.activation, nn.Softplus)
    if depth > 3 or (depth == 3 and (model.norm is not None or cast(nn.Linear, model.layers[1]).bias is not None)):
        raise InputError(
            f"a simulation of {depth} layers", expected="2 layers, or 3 without normalisation", hint="SAM itself"
        )
    if not (smooth or isinstance(model.activation, nn.ReLU)):
        raise InputError(f"a simulation with {type(model.activation).__name__}", expected="relu or softplus")
    if smooth and (model.activation.beta != 1 or isinstance(model.norm, SimplifiedBatchNorm)):
        raise InputError("a simulation of batch normalisation with softplus", expected="relu")
    if model.head.out_features != 1 or model.head.bias is not None:
        raise InputError("a simulation of a network with another head", expected="one output without bias")
    return model


def _smoothing(loss: Loss) -> float:
    if isinstance(loss, Logistic):
        return loss.smoothing
    if isinstance(loss, SquaredError):
        return -1.0
    raise InputError(f"a simulation of the loss {type(loss).__name__}", expected="SquaredError or Logistic")


def _padded(columns: np.ndarray) -> np.ndarray:
    rows, size = columns.shape
    filled = np.zeros((rows, -(-size // _PADDED) * _PADDED))
    filled[:, :size] = columns
    return filled


def _within(order: np.ndarray, count: int) -> bool:
    return bool((order >= 0).all() and (order < count).all())


def _as_text(stream: np.random.Generator) -> str:
    inner: Any = stream.bit_generator.state["state"]
    return f"{inner['state']} {inner['inc']}"
