"""The objective: the training loss as a function of one flat parameter vector, over all of its data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.distributed as distributed
from jaxtyping import Float
from torch import Tensor, nn

from edgescope.cost import Cost
from edgescope.errors import InputError, NotKnownError
from edgescope.linalg.operator import Operator
from edgescope.losses import accuracy_counts
from edgescope.objective.batches import Batches, Count, leading_size, piece_of
from edgescope.objective.checks import refuse_loss, refuse_options
from edgescope.objective.gauss_newton import gauss_newton_products
from edgescope.objective.layout import Layout
from edgescope.objective.modules import (
    Mode,
    measuring,
    own_precision,
    plain_arithmetic,
    refuse_dropout,
    refuse_parameters,
    thread_count,
    unwrapped,
    uses_batch_statistics,
)
from edgescope.objective.paths import Path
from edgescope.objective.plan import WIDTHS, PathName, Plan, Planner
from edgescope.objective.problem import LossFunction, Point, Problem
from edgescope.objective.second_order import named_fault, refuse_wrong_hessian

Kind = Literal["hessian", "gauss-newton"]


class Objective:
    """Loss, gradient and curvature products of a model on data, as functions of one flat vector.

    Args:
        model: any ``nn.Module``; compiled and data-parallel wrappers are seen through. It is left as it was:
            parameters, buffers, ``.grad``, train/eval mode, and every random generator.
        loss_fn: ``loss_fn(model, batch)`` returns the mean loss of the batch, a scalar. ``edgescope.supervised`` makes
            one from a criterion; only such a one can also give Gauss-Newton products and accuracies.
        data: one batch (a tensor, a dict, a tuple or list of tensors), a list of batches, a DataLoader, or anything
            that can be gone through again. Batches are weighted by their number of samples, and held in memory if
            they fit.
        mode: "eval" (default) or "train"; what the model is switched to while it is measured. "train" differentiates
            through batch statistics (one batch is then never cut) and refuses active dropout.
        l2: adds ``l2 / 2 * ||w||^2`` to the loss.
        dtype: precision of the measurement; the model's own by default (float32 for half-precision models). With
            ``torch.float64`` a float32 model is measured in float64, without being changed. Autocast is switched off.
        device: where to measure; the model's own device by default. Model and data are not moved in place.
        chunk: cut batches into pieces of at most this many samples; refused where the loss is not a mean over them.
            By default batches are cut only if their graph would not fit into memory.
        count: weight of a batch where it is not its number of samples, such as its number of tokens.
        path: "auto" times the derivative paths and keeps the cheapest; or the name of one.
        threads: "auto" times one thread against the present setting; a number; None for the present setting.
        expected_products: how many products the whole run will ask for; allows paths that are slow to build.
        memory_limit: bytes that a measurement may use; 80% of what is free by default.
        group: a ``torch.distributed`` process group over which the data are sharded; sums run over its ranks, which
            must all make the same calls.
        check: look for NaN in the data, for data that change between passes and for a loss that is not
            deterministic or not twice differentiable, before the first figure.

    Raises:
        InputError: empty or NaN data, a loss that is not a finite scalar or does not depend on the parameters.
        NotDeterministicError: dropout, sampling, or data that change between passes.
        NotDifferentiableError: a custom autograd function with a wrong second derivative.

    Cost of the checks: two losses and a gradient on at most 256 samples and one further pass over the data, now, and
    some five gradients of 32 samples before the first Hessian product. With path and threads fixed, products repeat
    bit for bit.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        data: Any,
        *,
        mode: Mode = "eval",
        l2: float = 0.0,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        chunk: int | None = None,
        count: Count | None = None,
        path: PathName | Literal["auto"] = "auto",
        threads: int | Literal["auto"] | None = "auto",
        expected_products: int | None = None,
        memory_limit: int | None = None,
        group: distributed.ProcessGroup | None = None,
        check: bool = True,
    ) -> None:
        refuse_options(model, loss_fn, mode=mode, l2=l2, chunk=chunk, dtype=dtype)
        self.model = unwrapped(model)
        self.loss_fn = loss_fn
        self.mode: Mode = mode
        self.l2 = float(l2)
        self.group = group
        self.spent = Cost()
        self._verified = not check
        self._exact: bool | None = None
        refuse_parameters(self.model)
        if mode == "train":
            refuse_dropout(self.model)
        whole_batches = uses_batch_statistics(self.model, mode)
        if chunk is not None and whole_batches:
            raise InputError(
                "chunk= with batch statistics would change the loss", hint="mode='eval', or smaller batches in the data"
            )
        own = [p for p in self.model.parameters() if p.requires_grad]
        self.dtype = dtype or own_precision(own)
        self.device = torch.device(device) if device is not None else own[0].device
        try:
            batches = Batches(data, count=count, dtype=self.dtype, device=self.device, check=check)
            self._problem = Problem(self.model, loss_fn, batches, dtype=self.dtype, device=self.device)
            self._planner = Planner(
                self._problem,
                path=path,
                threads=threads,
                expected_products=expected_products,
                memory_limit=memory_limit,
                whole_batches=whole_batches,
                check=check,
            )
            self._check(everything=check, whole_batches=whole_batches, chunk=chunk)
        except Exception:
            self._summed(torch.tensor([0.0, 1.0], dtype=torch.float64))
            raise
        total, refused = self._summed(torch.tensor([batches.samples, 0.0], dtype=torch.float64)).tolist()
        if refused:
            raise InputError(f"{refused:g} of the processes of the group refused their data or loss, as they say")
        self._problem.total = total

    # ------------------------------------------------------------------------------------------------ the function

    @property
    def size(self) -> int:
        """The number of trainable parameters, P."""
        return self._problem.layout.size

    @property
    def layout(self) -> Layout:
        """Name, shape and slice of every parameter tensor in the flat vector."""
        return self._problem.layout

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the parameter tensors, in order."""
        return [tuple(slot.shape) for slot in self.layout]

    @property
    def tensors(self) -> list[Tensor]:
        """The model's live trainable tensors, in order."""
        return self._problem.tensors()

    @property
    def samples(self) -> int:
        """The number of samples (or the total weight that ``count`` gives), over all processes of the group."""
        return int(self._problem.total)

    def parameters(self) -> Float[Tensor, " P"]:
        """A copy of the model's trainable parameters now, in the precision of the measurement."""
        return self._problem.live()

    def assign(self, w: Float[Tensor, " P"]) -> None:
        """Write ``w`` into the model: the only method that changes it."""
        w = self._checked(w)
        with torch.no_grad():
            for tensor, piece in zip(self.tensors, self.layout.split(w), strict=True):
                tensor.copy_(piece)

    def loss(self, w: Float[Tensor, " P"] | None = None) -> Float[Tensor, ""]:
        """The loss at ``w`` (the model's own parameters by default), a float64 scalar.

        Cost: one loss; nothing where a gradient or a product was taken at the same place.
        """
        point = self._at(w)
        if point.loss is None:
            with self._ready(point, derivatives=False), torch.no_grad():
                total = torch.zeros((), dtype=torch.float64, device=self.device)
                for chunk in self._problem.chunks():
                    total += self._problem.part(point, chunk)
                point.loss = total
            self.spent += Cost(losses=1)
        loss = self._summed(point.loss)
        return loss + 0.5 * self.l2 * point.flat.double().square().sum() if self.l2 else loss.clone()

    def gradient(self, w: Float[Tensor, " P"] | None = None) -> Float[Tensor, " P"]:
        """The gradient at ``w``, the same bits whatever was measured before.

        Cost: one gradient; nothing where a Hessian product was taken at the same place, unless this model's kernels
        round the gradient otherwise when it is to be differentiated again.
        """
        point = self._at(w)
        known = point.graph_gradient
        if point.gradient is None and known is not None and self._is_exact(point, known):
            point.gradient = known
        if point.gradient is None:
            with self._ready(point):
                point.loss, point.gradient = self._problem.gradient(point)
            self.spent += Cost(gradients=1)
        return self._summed(point.gradient) + self.l2 * point.flat

    def hvp(self, V: Tensor, w: Float[Tensor, " P"] | None = None) -> Tensor:
        """Hessian products at ``w`` with one vector ``(P,)`` or with the columns of ``(P, k)``, all at once.

        Cost: k products (see ``plan().product_cost``) and, where graphs are kept, one gradient the first time at a
        place. Raises NotDifferentiableError where an operation has no second derivative.
        """
        return self._product(V, w, self._hessian)

    def gnvp(self, V: Tensor, w: Float[Tensor, " P"] | None = None) -> Tensor:
        """Gauss-Newton products J^T (d2 criterion) J V, mean over samples, plus the l2 term; shapes as in ``hvp``.

        Needs a loss function that tells outputs and criterion apart, such as ``edgescope.supervised`` makes. Cost: k
        products and, where graphs are kept, one gradient the first time at a place.
        """
        return self._product(V, w, self._gauss_newton)

    def operator(self, w: Float[Tensor, " P"] | None = None, kind: Kind = "hessian") -> Operator:
        """The Hessian (or Gauss-Newton matrix) at ``w`` as an operator; at the live parameters when w is None."""
        if kind not in ("hessian", "gauss-newton"):
            raise InputError(f"kind '{kind}'", expected="'hessian' or 'gauss-newton'")
        place = None if w is None else self._checked(w).clone()
        multiply = self.hvp if kind == "hessian" else self.gnvp
        return Operator(
            self.size,
            lambda block: multiply(block, place),
            dtype=self.dtype,
            device=self.device,
            shapes=self.shapes,
        )

    def outputs(self, w: Float[Tensor, " P"] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Model outputs and targets of this process's data, chunk by chunk, without gradients. Cost: one loss."""
        supervised = self._supervised("outputs and targets")
        return self._outputs(self._at(w), supervised)

    def accuracy(self, w: Float[Tensor, " P"] | None = None) -> float:
        """The share of samples (tokens) whose largest output is the target's class. Cost: one loss."""
        counts = torch.zeros(2, dtype=torch.float64)
        for outputs, targets in self.outputs(w):
            counts += torch.tensor(accuracy_counts(outputs, targets))
        right, total = self._summed(counts).tolist()
        return right / total

    # ---------------------------------------------------------------------------------------------------- the means

    def plan(self, width: int = 1) -> Plan:
        """How products of blocks of ``width`` vectors are computed here; timed on first use, then remembered.

        What the timing takes is not counted in ``spent``.
        """
        if width < 1:
            raise InputError(f"a block of {width} vectors", expected="at least one")
        known = self._planner.known(width)
        if known is None:
            point = self._at(None)
            with self._ready(point):
                known = self._chosen(point, width)
        return known[1]

    def release(self) -> None:
        """Let go of kept graphs (hundreds of MiB for large models); the next product builds them anew."""
        self._problem.forget()

    # ------------------------------------------------------------------------------------------------------ private

    @contextmanager
    def _ready(self, point: Point, derivatives: bool = True) -> Iterator[None]:
        with thread_count(self._planner.threads), measuring(self.model, self.mode, self.device):
            if derivatives:
                self._planner.prepare(point)
            yield

    def _at(self, w: Tensor | None) -> Point:
        return self._problem.point(None if w is None else self._checked(w))

    def _product(self, V: Tensor, w: Tensor | None, multiply: Callable[[Point, Tensor], Tensor]) -> Tensor:
        if not isinstance(V, Tensor) or V.ndim not in (1, 2) or V.shape[0] != self.size:
            raise InputError(
                f"a block of vectors of {_form(V)}",
                expected=f"shape ({self.size},) or ({self.size}, k), one row a parameter",
            )
        rows = (V[None] if V.ndim == 1 else V.T).detach().to(self.device, self.dtype).contiguous()
        result = self._summed(multiply(self._at(w), rows))
        if self.l2:
            result = result + self.l2 * rows
        self.spent += Cost(products=rows.shape[0])
        return result[0] if V.ndim == 1 else result.T

    def _hessian(self, point: Point, rows: Tensor) -> Tensor:
        known = self._planner.known(len(rows))
        if known is not None and known[0].keep and point.graphs is not None:
            # The graphs are there: no code of the model runs, so nothing of it has to be switched.
            with thread_count(self._planner.threads), plain_arithmetic(self.device):
                return self._multiplied(known[0], point, rows)
        with self._ready(point):
            path, _ = self._chosen(point, len(rows))
            built = point.graphs is None
            result = self._multiplied(path, point, rows)
        self.spent += Cost(gradients=int(path.keep and built))
        return result

    def _chosen(self, point: Point, width: int) -> tuple[Path, Plan]:
        if not self._verified:
            self._verified = refuse_wrong_hessian(self._problem, point)
        return self._planner.choose(point, width)

    def _is_exact(self, point: Point, known: Tensor) -> bool:
        """Whether gradients from graphs have the bits of plain ones; found out once, and not counted."""
        if self._exact is None:
            with self._ready(point):
                self._exact = torch.equal(self._problem.gradient(point)[1], known)
        return self._exact

    def _multiplied(self, path: Path, point: Point, rows: Tensor) -> Tensor:
        try:
            parts = [path.products(self._problem, point, piece) for piece in rows.split(WIDTHS[-1])]
        except (RuntimeError, NotImplementedError) as error:
            raise named_fault(error) from error
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _gauss_newton(self, point: Point, rows: Tensor) -> Tensor:
        supervised = self._supervised("Gauss-Newton products")
        with self._ready(point):
            room = self._planner.prepare(point)
            beside = 0 if point.graphs is None else room.all_chunks
            keep = point.output_graphs is not None or self._planner.keeps(room, beside)
            built = point.output_graphs is None
            try:
                result = gauss_newton_products(self._problem, point, rows, supervised, keep)
            except (RuntimeError, NotImplementedError) as error:
                raise named_fault(error) from error
        self.spent += Cost(gradients=int(keep and built))
        return result

    def _outputs(self, point: Point, supervised: Any) -> Iterator[tuple[Tensor, Tensor]]:
        self.spent += Cost(losses=1)
        for chunk in self._problem.chunks():
            with self._ready(point, derivatives=False), torch.no_grad():
                found = self._problem.call(point.tensors, point.constants, chunk.batch, supervised.outputs)
            yield found, supervised.targets(chunk.batch)

    def _summed(self, value: Tensor) -> Tensor:
        """The sum over all processes of the group; one exchange a call, whatever this process has kept."""
        if self.group is None:
            return value
        shared = value.to(self.device, copy=True).contiguous()
        distributed.all_reduce(shared, group=self.group)
        return shared

    def _supervised(self, what: str) -> Any:
        if not all(hasattr(self.loss_fn, name) for name in ("outputs", "targets", "criterion_of")):
            raise NotKnownError(
                f"this loss function does not tell outputs and criterion apart, which {what} need",
                hint="edgescope.supervised(criterion)",
            )
        return self.loss_fn

    def _checked(self, w: Tensor) -> Tensor:
        if not isinstance(w, Tensor) or w.shape != (self.size,):
            raise InputError(f"a parameter vector of {_form(w)}", expected=f"shape ({self.size},)")
        return w.detach().to(self.device, self.dtype)

    def _check(self, everything: bool, whole_batches: bool, chunk: int | None) -> None:
        point = self._at(None)
        with self._ready(point, derivatives=False):
            if everything:
                batch = self._problem.batches.heaviest
                if not whole_batches:
                    batch = piece_of(batch, 0, min(leading_size(batch), 256))
                refuse_loss(lambda: self._problem.loss_of(point.tensors, point.constants, batch), point.tensors)
            if chunk is not None:
                self._problem.cut(chunk, point, f"chunk={chunk} would cut the batches")


def _form(thing: Any) -> str:
    return f"shape {tuple(thing.shape)}" if isinstance(thing, Tensor) else f"type {type(thing).__name__}"
