"""What the derivative paths differentiate: the loss of a model on its data, with parameters put in from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from edgescope.errors import InputError
from edgescope.objective.batches import Batch, Batches, Chunk
from edgescope.objective.checks import evaluated
from edgescope.objective.layout import Layout, Tensors
from edgescope.objective.modules import owned_tensors

LossFunction = Callable[[nn.Module, Batch], Tensor]


@dataclass
class Point:
    """A place in parameter space, with what has been worked out there on this process's share of the data.

    ``constants`` are the buffers and the frozen parameters. ``graph_gradient`` is the gradient as graphs that can be
    differentiated again have it, which some kernels round otherwise than a plain backward pass. ``graphs`` and
    ``output_graphs`` are those of :class:`paths.GradientGraph` and :class:`gauss_newton.GaussNewtonGraph`, one a chunk,
    where they are kept.
    """

    flat: Float[Tensor, " P"]
    tensors: list[Tensor]
    constants: dict[str, Tensor]
    loss: Tensor | None = None
    gradient: Float[Tensor, " P"] | None = None
    graph_gradient: Float[Tensor, " P"] | None = None
    graphs: list[Any] | None = None
    output_graphs: list[Any] | None = None


class Problem:
    """A model, its loss function and its data as functions of tensors that are put in from outside.

    ``total`` is the weight of all data, over all processes that share them; the shares of the chunks refer to it.
    """

    def __init__(
        self, model: nn.Module, loss_fn: LossFunction, batches: Batches, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.batches = batches
        self.dtype, self.device = dtype, device
        self.total = batches.samples
        # Looked up in their modules at every use: a tensor that was replaced since is then seen.
        self._trainable, self._constant = owned_tensors(model)
        self.layout = Layout({name: owner[key] for name, owner, key in self._trainable})
        self._module = _LossModule(model, loss_fn)
        self._point: Point | None = None

    # The parameters.

    def tensors(self) -> list[Tensor]:
        """The model's live trainable tensors."""
        return [owner[key] for _, owner, key in self._trainable]

    def live(self) -> Float[Tensor, " P"]:
        """A copy of the model's trainable parameters now, in the precision of the measurement."""
        with torch.no_grad():
            return torch.cat([t.reshape(-1) for t in self.tensors()]).to(self.device, self.dtype)

    def point(self, w: Float[Tensor, " P"] | None) -> Point:
        """The point at ``w`` (None: the live parameters): the last one again while nothing has changed.

        Values are compared, since a change through ``.data`` leaves no other trace.
        """
        flat = self.live() if w is None else w
        constants = self._constants()
        last = self._point
        if last is not None and torch.equal(last.flat, flat):
            same = (name in constants and torch.equal(c, constants[name]) for name, c in last.constants.items())
            if len(constants) == len(last.constants) and all(same):
                return last
        with torch.inference_mode(False):
            flat = flat.detach().clone()
            leaves = [piece.clone().requires_grad_() for piece in self.layout.split(flat)]
            self._point = Point(flat, leaves, {name: c.clone() for name, c in constants.items()})
        return self._point

    def forget(self) -> None:
        """Let go of the last point and of all that was kept there."""
        self._point = None

    def _constants(self) -> dict[str, Tensor]:
        found = {}
        for name, owner, key in self._constant:
            tensor = owner.get(key)
            if tensor is not None:
                kind = self.dtype if tensor.is_floating_point() else tensor.dtype
                found[name] = tensor.detach().to(self.device, kind)
        return found

    # The function.

    def chunks(self) -> Iterator[Chunk]:
        """All chunks of this process's data, with their shares of the whole."""
        scale = self.batches.samples / self.total
        for chunk in self.batches.chunks():
            yield Chunk(chunk.share * scale, chunk.batch)

    def loss_of(self, tensors: Tensors, constants: dict[str, Tensor], batch: Batch) -> Tensor:
        """The mean loss of one batch."""
        return self.call(tensors, constants, batch, None)

    def part(self, point: Point, chunk: Chunk) -> Tensor:
        """What one chunk adds to the loss, checked to be a scalar."""
        return chunk.share * evaluated(lambda: self.loss_of(point.tensors, point.constants, chunk.batch))

    def call(
        self,
        tensors: Tensors,
        constants: dict[str, Tensor],
        batch: Batch,
        function: Callable[[nn.Module, Any], Tensor] | None,
    ) -> Tensor:
        """``function(model, batch)`` (None: the loss function) with these tensors in the place of the model's own."""
        put_in = {f"model.{slot.name}": t for slot, t in zip(self.layout, tensors, strict=True)}
        # Copies, because batch normalisation in training mode writes to its running statistics.
        put_in |= {f"model.{name}": c.clone() for name, c in constants.items()}
        return torch.func.functional_call(self._module, put_in, (batch, function))

    def gradient(self, point: Point) -> tuple[Float[Tensor, ""], Float[Tensor, " P"]]:
        """Loss (float64) and gradient, by plain backward passes."""
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        gradient = torch.zeros_like(point.flat)
        for chunk in self.chunks():
            value = self.part(point, chunk)
            found = torch.autograd.grad(value, point.tensors, allow_unused=True, materialize_grads=True)
            loss += value.detach()
            gradient += self.layout.join(found)
        return loss, gradient

    def cut(self, samples: int, point: Point, why: str) -> None:
        """Cut batches into chunks of ``samples``, once it is sure that this does not change the loss.

        Raises InputError where the mean over the pieces is not the loss of the whole batch.
        """
        batch = self.batches.heaviest
        with torch.no_grad():
            whole = float(self.loss_of(point.tensors, point.constants, batch))
            pieces = self.batches.pieces(batch, samples)
            parts = [(self.batches.count(p), float(self.loss_of(point.tensors, point.constants, p))) for p in pieces]
        weight = sum(count for count, _ in parts)
        mean = sum(count * loss for count, loss in parts) / weight
        scale = max(sum(count * abs(loss) for count, loss in parts) / weight, abs(whole))
        if abs(mean - whole) > (1e-9 if self.dtype == torch.float64 else 1e-4) * scale:
            raise InputError(
                f"{why}, but the loss is not a mean over samples ({whole:.6g} whole, {mean:.6g} in pieces)",
                hint="smaller batches in the data, or count= with the weight that the loss divides by",
            )
        self.batches.cut = samples


class _LossModule(nn.Module):
    """A model and its loss function as one module, so that parameters can be put in from outside by name."""

    def __init__(self, model: nn.Module, loss_fn: LossFunction) -> None:
        super().__init__()
        self.model = model
        self._function = loss_fn

    def forward(self, batch: Batch, function: Callable[[nn.Module, Any], Tensor] | None) -> Tensor:
        return (function or self._function)(self.model, batch)
