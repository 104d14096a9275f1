"""The function that the derivative paths differentiate: the loss of a model on its data at given parameters."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgescope.cost import Meter
from edgescope.errors import InputError, ModelChangedError
from edgescope.objective.batches import Batch, Batches, Chunk, leading_size
from edgescope.objective.checks import evaluated
from edgescope.objective.layout import Layout, Tensors
from edgescope.objective.selection import ParameterSelection
from edgescope.objective.structure import Change, Structure, changes, owned_tensors, structure_of
from edgescope.shards import whole
from edgescope.transfers import equal

A_LOSS = 1 / 3
"""What a loss counts, in gradients."""

A_PRODUCT = 2.0
"""What a curvature product counts, in gradients."""

LossFunction = Callable[[nn.Module, Batch], Tensor]


@dataclass
class Point:
    """A place in parameter space, with what has been worked out there on this process's share of the data.

    ``constants`` are the buffers, the frozen parameters and those that were not chosen, ``parts`` the modules of the
    model, which a caller may replace. ``graph_gradient`` is the gradient as graphs that can be differentiated again
    have it, which some kernels round otherwise than a plain backward pass. ``graphs`` and ``output_graphs`` are those
    of :class:`paths.GradientGraph` and :class:`gauss_newton.GaussNewtonGraph`, one a chunk, where they are kept.
    """

    flat: Float[Tensor, " P"]
    tensors: list[Tensor]
    constants: dict[str, Tensor]
    loss: Tensor | None = None
    gradient: Float[Tensor, " P"] | None = None
    graph_gradient: Float[Tensor, " P"] | None = None
    graphs: list[Any] | None = None
    output_graphs: list[Any] | None = None
    parts: list[nn.Module] = field(default_factory=list)
    differentiable: bool = field(default=False, init=False)


class TrainingProblem:
    """A model, its loss function and its data as functions of tensors that are put in from outside.

    ``total`` is the weight of all data, over all processes that share them; the shares of the chunks refer to it.
    ``trains`` is False at the entries that never train (padding rows of embeddings), None where all do.
    ``gathered`` are whole parameters by the identity of those that are sharded, while processes must not meet for them.
    ``takes_gradients``: the loss takes derivatives itself (of outputs by inputs, in an inner loop), or adds a term only
    where gradients are on, so that it is evaluated with gradients on everywhere.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        batches: Batches,
        *,
        dtype: torch.dtype,
        device: torch.device,
        chosen: ParameterSelection | None,
        meter: Meter | None = None,
        gathered: dict[int, Tensor] | None = None,
    ) -> None:
        self.model, self.loss_fn = model, loss_fn
        self.gathered = gathered or {}
        self.batches = batches
        self.dtype, self.device = dtype, device
        self.total = batches.samples
        self._meter, self._preparing = meter or Meter(), False
        self._rows, self._width = batches.rows, dtype.itemsize
        self.chosen = chosen
        self.trains: Bool[Tensor, " P"] | None = None
        self.takes_gradients = False
        self._structure: Structure = structure_of(model)
        self._trainable, self._constant = owned_tensors(model, chosen)
        if not self._trainable:
            raise InputError(
                "none of the chosen parameters is trainable", expected="requires_grad=True for one of them"
            )
        self.layout = Layout({name: owner[key] for name, owner, key in self._trainable})
        self._module = LossModule(model, loss_fn)
        self._point: Point | None = None

    # The parameters.

    def tensors(self) -> list[Tensor]:
        """The model's live trainable tensors, also where a layer was replaced by one of the same names and shapes.

        Raises :class:`ModelChangedError` where the model has others than this problem was made for.
        """
        trainable, constant = owned_tensors(self.model, self.chosen)
        found = [owner[key] for _, owner, key in trainable]
        same = len(found) == len(self.layout) and all(
            name == slot.name and tensor.shape == slot.shape
            for (name, _, _), tensor, slot in zip(trainable, found, self.layout, strict=True)
        )
        if not same:
            words = "; ".join(map(str, self.changes(structural=True))) or "in another order"
            raise ModelChangedError(
                f"the trainable parameters of the model have changed ({words})",
                expected="the parameters that the objective was made for",
                hint="a new Objective",
            )
        self._trainable, self._constant = trainable, constant
        return found

    def changes(self, structural: bool = False) -> list[Change]:
        """How the parameters differ from those at the start; ``structural``: only what changes the flat vector."""
        found = changes(self._structure, structure_of(self.model), self.chosen)
        kinds = ("added", "removed", "reshaped", "frozen", "thawed")
        return [change for change in found if not structural or change.kind in kinds]

    def live(self) -> Float[Tensor, " P"]:
        """A copy of the model's trainable parameters now, in the precision of the measurement."""
        with torch.no_grad():
            return torch.cat([self._whole(t).reshape(-1) for t in self.tensors()]).to(self.device, self.dtype)

    def point(self, w: Float[Tensor, " P"] | None) -> Point:
        """The point at ``w`` (None: the live parameters): the last one again while nothing has changed.

        Values are compared, since a change through ``.data`` leaves no other trace.
        """
        if w is None:
            flat = self.live()
        else:
            self.tensors()  # what was replaced since is followed, or refused
            flat = w
        constants, parts = self._constants(), list(self.model.modules())
        last = self._point
        replaced = last is None or len(parts) != len(last.parts) or any(map(operator.is_not, parts, last.parts))
        if last is not None and not replaced and constants.keys() == last.constants.keys():
            pairs = [(last.flat, flat), *((c, constants[name]) for name, c in last.constants.items())]
            if equal(pairs):
                return last
        with torch.inference_mode(False):
            flat = flat.detach().clone()
            leaves = [piece.clone().requires_grad_() for piece in self.layout.split(flat)]
            constants = {name: c.clone() for name, c in constants.items()}
            self._point = Point(flat, leaves, constants, parts=parts)
        return self._point

    def forget(self) -> None:
        """Let go of the last point and of all that was kept there."""
        self._point = None

    def hold_constant(self, rows: dict[int, int]) -> None:
        """Treat a row of a tensor, both by number, as a constant: it has no gradient and no curvature."""
        if not rows:
            return
        self.trains = torch.ones(self.layout.size, dtype=torch.bool, device=self.device)
        pieces = self.layout.split(self.trains)
        for place, row in rows.items():
            pieces[place][row] = False

    def masked(self, vectors: Float[Tensor, "*k P"]) -> Float[Tensor, "*k P"]:
        """Vectors with zeros at the entries that never train."""
        return vectors if self.trains is None else vectors * self.trains

    def _whole(self, tensor: Tensor) -> Tensor:
        known = self.gathered.get(id(tensor))
        return whole(tensor) if known is None else known

    def _constants(self) -> dict[str, Tensor]:
        found = {}
        for name, owner, key in self._constant:
            tensor = owner.get(key)
            if tensor is not None:
                kind = self.dtype if tensor.is_floating_point() else tensor.dtype
                found[name] = self._whole(tensor).to(self.device, kind)
        return found

    # What checks and timings evaluate.

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """Inside, losses are counted as preparation, and so is what :meth:`count_preparation` is told."""
        before, self._preparing = self._preparing, True
        try:
            yield
        finally:
            self._preparing = before

    def count_preparation(self, gradients: float, batch: Batch | None = None, width: int | None = None) -> None:
        """Count so many gradients of ``batch`` (None: of all data here), where this is preparation.

        ``width`` is that of its numbers, in bytes.
        """
        if self._preparing:
            rows = self.batches.rows if batch is None else leading_size(batch)
            self._meter.prepare(gradients * rows / self._rows * max(1.0, (width or self.dtype.itemsize) / self._width))

    # The function.

    def chunks(self) -> Iterator[Chunk]:
        """All chunks of this process's data, with their shares of the whole."""
        scale = self.batches.samples / self.total
        for chunk in self.batches.chunks():
            yield Chunk(chunk.share * scale, chunk.batch)

    def loss_of(self, tensors: Tensors, constants: dict[str, Tensor], batch: Batch) -> Any:
        """The mean loss of one batch: whatever the user's function returns, which :func:`evaluated` checks."""
        return self.call(tensors, constants, batch, None)

    def part(self, point: Point, chunk: Chunk) -> Tensor:
        """What one chunk adds to the loss, checked to be a scalar."""
        return chunk.share * evaluated(lambda: self.loss_of(point.tensors, point.constants, chunk.batch))

    def loss_of_live_model(self) -> Float[Tensor, ""]:
        """The loss (float64) of the model as it is, whatever its parameters are by now; inside ``measuring``."""
        dtype = next(p.dtype for p in self.model.parameters() if p.is_floating_point())
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for chunk in self.chunks():

            def convert(leaf: Any) -> Any:
                return leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

            batch = pytree.tree_map(convert, chunk.batch)
            buffers = {f"model.{name}": b.clone() for name, b in self.model.named_buffers()}
            work = functools.partial(torch.func.functional_call, self._module, buffers, (batch, None))
            with self._gradients_as_needed():
                total += chunk.share * evaluated(work).detach()
        return total

    def call(
        self,
        tensors: Tensors,
        constants: dict[str, Tensor],
        batch: Batch,
        function: Callable[[nn.Module, Any], Tensor] | None,
        module: LossModule | None = None,
    ) -> Any:
        """``function(model, batch)`` (None: the loss function) with these tensors in the place of the model's own.

        ``module`` is another one in the place of the model and its loss function, such as a copy.
        """
        self.count_preparation(A_LOSS, batch, tensors[0].element_size())
        detached = self.takes_gradients and not torch.is_grad_enabled()
        if detached:
            tensors = [t if t.requires_grad else t.detach().requires_grad_() for t in tensors]
        put_in = {f"model.{slot.name}": t for slot, t in zip(self.layout, tensors, strict=True)}
        # Copies, because batch normalisation in training mode writes to its running statistics.
        put_in |= {f"model.{name}": c.clone() for name, c in constants.items()}
        with self._gradients_as_needed():
            found: Tensor = torch.func.functional_call(module or self._module, put_in, (batch, function))
        return found.detach() if detached and isinstance(found, Tensor) else found

    def _gradients_as_needed(self) -> AbstractContextManager[object]:
        return torch.enable_grad() if self.takes_gradients else contextlib.nullcontext()

    def gradient(self, point: Point) -> tuple[Float[Tensor, ""], Float[Tensor, " P"]]:
        """Loss (float64) and gradient, by plain backward passes."""
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        gradient = torch.zeros_like(point.flat)
        for chunk in self.chunks():
            value = self.part(point, chunk)
            found = torch.autograd.grad(value, point.tensors, allow_unused=True, materialize_grads=True)
            self.count_preparation(1 - A_LOSS, chunk.batch)
            loss += value.detach()
            gradient += self.layout.join(found)
        return loss, gradient

    def cut(self, samples: int, point: Point, why: str) -> None:
        """Cut batches into chunks of ``samples``, once it is sure that this does not change the loss.

        Raises InputError where the mean over the pieces is not the loss of the whole batch, or there are no pieces.
        """
        if self.batches.uncut:
            raise InputError(
                f"{why}, but they cannot be split (tensors with different numbers of rows, or a model that cannot take"
                " a part of a batch)",
                hint="smaller batches in the data",
            )
        batch = self.batches.heaviest
        with torch.no_grad():
            whole = float(self.loss_of(point.tensors, point.constants, batch))
            pieces = [piece for piece in self.batches.pieces(batch, samples) if self.batches.count(piece)]
            parts = [(self.batches.count(p), float(self.loss_of(point.tensors, point.constants, p))) for p in pieces]
        weight = sum(count for count, _ in parts)
        mean = sum(count * loss for count, loss in parts) / weight
        scale = max(sum(count * abs(loss) for count, loss in parts) / weight, abs(whole))
        if abs(mean - whole) > (1e-7 if self.dtype == torch.float64 else 1e-4) * scale:
            raise InputError(
                f"{why}, but the loss is not a mean over samples ({whole:.6g} whole, {mean:.6g} split)",
                hint="smaller batches in the data, or count= with the weight that the loss divides by",
            )
        self.batches.cut_to(samples)


class LossModule(nn.Module):
    """A model and its loss function as one module, so that parameters can be put in from outside by name."""

    def __init__(self, model: nn.Module, loss_fn: LossFunction) -> None:
        super().__init__()
        self.model = model
        self._function = loss_fn

    def forward(self, batch: Batch, function: Callable[[nn.Module, Any], Tensor] | None) -> Any:
        return (function or self._function)(self.model, batch)
