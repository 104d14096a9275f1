"""The objective: the training loss as a function of one flat parameter vector, over all of its data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as distributed
from jaxtyping import Float
from torch import Tensor, nn

from edgescope.cost import Cost
from edgescope.errors import EdgescopeError, InputError, NotKnownError
from edgescope.linalg.operator import Operator
from edgescope.losses import accuracy_counts
from edgescope.memory import budget, readable, require
from edgescope.objective.batches import Batch, Batches, Chunk, Count, leading_size, piece_of
from edgescope.objective.checks import evaluated, refuse_independent, refuse_not_finite, refuse_random
from edgescope.objective.gauss_newton import GaussNewtonGraph
from edgescope.objective.graph_memory import graph_bytes
from edgescope.objective.modules import (
    LossModule,
    Mode,
    measuring,
    refuse_dropout,
    thread_count,
    trainable,
    unwrapped,
    uses_batch_statistics,
)
from edgescope.objective.paths import DoubleBackward, GradientGraph, Path, Point, Problem, Tensors, named_fault
from edgescope.objective.plan import PathName, Plan, choose_path, choose_threads, make_path

LossFunction = Callable[[nn.Module, Batch], Tensor]
Kind = Literal["hessian", "gauss-newton"]


class Slot(NamedTuple):
    """Where one parameter tensor lies in the flat vector."""

    name: str
    shape: torch.Size
    slice: slice


class Objective(Problem):
    """Loss, gradient and curvature products of a model on data, as functions of one flat vector.

    Args:
        model: any ``nn.Module``; compiled and data-parallel wrappers are seen through. It is left as it was:
            parameters, buffers, ``.grad``, train/eval mode, and every random generator.
        loss_fn: ``loss_fn(model, batch)`` returns the mean loss of the batch, a scalar. ``edgescope.supervised`` makes
            one from a criterion; only such a one can also give Gauss-Newton products and accuracies.
        data: one batch (a tensor, a tuple, a dict), a list of batches, a DataLoader, or anything that can be gone
            through again. Batches are weighted by their number of samples. Held in memory if they fit.
        mode: "eval" (default) or "train"; what the model is switched to while it is measured. "train" differentiates
            through batch statistics (one batch is then never cut) and refuses active dropout.
        l2: adds ``l2 / 2 * ||w||^2`` to the loss.
        dtype: precision of the measurement; the model's own by default (float32 for half-precision models). With
            ``torch.float64`` a float32 model is measured in float64, without being changed.
        device: where to measure; the model's own device by default. Model and data are not moved in place.
        chunk: cut batches into pieces of this many samples; the loss must then be a mean over samples (or ``count``
            given). By default batches are cut only if their graph would not fit into memory.
        count: weight of a batch where it is not its number of samples, such as its number of tokens.
        path: "auto" times the derivative paths and keeps the cheapest; or the name of one.
        threads: "auto" times one thread against the present setting; or a number.
        expected_products: how many products the whole run will ask for; allows paths that are slow to build.
        memory_limit: bytes that a measurement may use; 80% of what is free by default.
        group: a ``torch.distributed`` process group over which the data are sharded; sums run over its ranks.
        check: look for NaN in the data and for a loss that is not deterministic, before the first figure.

    Raises:
        InputError: empty or NaN data, a loss that is not a finite scalar or does not depend on the parameters.
        NotDeterministicError: dropout, sampling, or data that change between passes.

    Cost: one loss and one gradient on the first batch, and one further pass over the data, for the checks.
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
        if not isinstance(model, nn.Module):
            raise InputError(f"a model of type {type(model).__name__}", expected="a torch.nn.Module")
        if mode not in ("eval", "train"):
            raise InputError(f"mode '{mode}'", expected="'eval' or 'train'")
        if not 0 <= l2 < float("inf"):
            raise InputError(f"l2 = {l2}", expected="a finite number, not negative")
        if chunk is not None and chunk < 1:
            raise InputError(f"chunk = {chunk}", expected="at least one sample")
        self.model = unwrapped(model)
        self.loss_fn = loss_fn
        self.mode: Mode = mode
        self.l2 = float(l2)
        found = trainable(self.model)
        self.tensors: list[Tensor] = list(found.values())
        self.layout: list[Slot] = _layout(found)
        self.size = self.layout[-1].slice.stop
        self.shapes = [tuple(slot.shape) for slot in self.layout]
        self.dtype = dtype or _own_precision(self.tensors)
        self.device = torch.device(device) if device is not None else self.tensors[0].device
        self.spent = Cost()
        self.memory_limit = memory_limit
        self.group = group
        self._whole_batches = uses_batch_statistics(self.model, mode)
        if mode == "train":
            refuse_dropout(self.model)
        if chunk is not None and self._whole_batches:
            raise InputError(
                "chunk= with batch statistics would change the loss", hint="mode='eval', or smaller batches in the data"
            )
        self._module = LossModule(self.model, loss_fn)
        self._wanted_path, self._wanted_threads = path, threads
        self._expected_products = expected_products
        self._threads = None if threads == "auto" else threads
        self._gradient_seconds = float("nan")
        self._plans: dict[int, tuple[Path, Plan]] = {}
        self._point: Point | None = None
        self._graph_bytes: int | None = None
        self._batches = Batches(data, count=count, dtype=self.dtype, device=self.device, check=check)
        self._batches.cut = chunk
        self._total = self._summed(torch.tensor(self._batches.samples, dtype=torch.float64)).item()
        if check:
            self._check()

    # ------------------------------------------------------------------------------------------------ the function

    @property
    def samples(self) -> int:
        """The number of samples (or the total weight that ``count`` gives), over all ranks."""
        return int(self._total)

    def parameters(self) -> Float[Tensor, " P"]:
        """A copy of the model's trainable parameters now, in the precision of the measurement."""
        return torch.cat([t.detach().reshape(-1).to(self.device, self.dtype) for t in self.tensors])

    def assign(self, w: Float[Tensor, " P"]) -> None:
        """Write ``w`` into the model: the only method that changes it."""
        w = self._checked(w)
        with torch.no_grad():
            for tensor, piece in zip(self.tensors, self.split(w), strict=True):
                tensor.copy_(piece)

    def loss(self, w: Float[Tensor, " P"] | None = None) -> Float[Tensor, ""]:
        """The loss at ``w`` (the model's own parameters by default), a float64 scalar. Cost: one forward pass."""
        point = self._at(w)
        if point.loss is None:
            with self._ready(), torch.no_grad():
                total = torch.zeros((), dtype=torch.float64, device=self.device)
                for chunk in self.chunks():
                    total += chunk.share * self.loss_of(point.tensors, point.buffers, chunk.batch).double()
                point.loss = self._summed(total)
            self.spent += Cost(losses=1)
        return point.loss + 0.5 * self.l2 * point.flat.double().square().sum()

    def gradient(self, w: Float[Tensor, " P"] | None = None) -> Float[Tensor, " P"]:
        """The gradient at ``w``. Cost: one gradient; nothing where a curvature product was taken at the same place."""
        point = self._at(w)
        if point.gradient is None:
            with self._ready():
                loss, gradient = self._fresh_gradient(point)
            point.loss, point.gradient = self._summed(loss), self._summed(gradient)
            self.spent += Cost(gradients=1)
        return point.gradient + self.l2 * point.flat

    def hvp(self, V: Tensor, w: Float[Tensor, " P"] | None = None) -> Tensor:
        """Hessian products at ``w`` with one vector ``(P,)`` or with the columns of ``(P, k)``, all at once.

        Cost: k products (see ``plan().product_cost``), and one gradient the first time at a place, after which the
        gradient there is known too. Raises NotDifferentiableError where an operation has no second derivative.
        """
        return self._product(V, w, "hessian")

    def gnvp(self, V: Tensor, w: Float[Tensor, " P"] | None = None) -> Tensor:
        """Gauss-Newton products J^T (d2 criterion) J V, mean over samples, plus the l2 term; shapes as in ``hvp``.

        Needs a loss function that tells outputs and criterion apart, such as ``edgescope.supervised`` makes.
        """
        return self._product(V, w, "gauss-newton")

    def operator(self, w: Float[Tensor, " P"] | None = None, kind: Kind = "hessian") -> Operator:
        """The Hessian (or Gauss-Newton matrix) at ``w`` as an operator; at the live parameters when w is None."""
        place = None if w is None else self._checked(w).clone()
        multiply = {"hessian": self.hvp, "gauss-newton": self.gnvp}[kind]
        return Operator(
            self.size,
            lambda block: multiply(block, place),
            dtype=self.dtype,
            device=self.device,
            shapes=self.shapes,
        )

    def outputs(self, w: Float[Tensor, " P"] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Model outputs and targets, chunk by chunk, without gradients. Cost: one loss."""
        point = self._at(w)
        supervised = self._supervised("outputs and targets")
        with self._ready(), torch.no_grad():
            found = [
                (
                    self._call(point.tensors, point.buffers, chunk.batch, supervised.outputs),
                    supervised.targets(chunk.batch),
                )
                for chunk in self.chunks()
            ]
        self.spent += Cost(losses=1)
        yield from found

    def accuracy(self, w: Float[Tensor, " P"] | None = None) -> float:
        """The share of samples (tokens) whose largest output is the target's class. Cost: one loss."""
        right, total = 0, 0
        for outputs, targets in self.outputs(w):
            correct, counted = accuracy_counts(outputs, targets)
            right, total = right + correct, total + counted
        both = self._summed(torch.tensor([right, total], dtype=torch.float64))
        return float(both[0] / both[1])

    # ---------------------------------------------------------------------------------------------------- the means

    def plan(self, width: int = 1) -> Plan:
        """How products of blocks of ``width`` vectors are computed here; timed on first use, then remembered."""
        with self._ready():
            return self._planned(width)[1]

    def release(self) -> None:
        """Let go of kept graphs (hundreds of MiB for large models); the next product builds them anew."""
        self._point = None

    # -------------------------------------------------------------------------------- what the derivative paths use

    def chunks(self) -> Iterator[Chunk]:
        scale = self._batches.samples / self._total
        for chunk in self._batches.chunks():
            yield Chunk(chunk.share * scale, chunk.batch)

    def loss_of(self, tensors: Tensors, buffers: dict[str, Tensor], batch: Any) -> Tensor:
        return self._call(tensors, buffers, batch)

    def split(self, rows: Float[Tensor, "*k P"]) -> list[Tensor]:
        return [rows[..., slot.slice].reshape(rows.shape[:-1] + slot.shape) for slot in self.layout]

    def join(self, tensors: Tensors, out: Float[Tensor, "*k P"]) -> None:
        for slot, tensor in zip(self.layout, tensors, strict=True):
            out[..., slot.slice] += tensor.detach().reshape(*out.shape[:-1], -1)

    def _call(
        self,
        tensors: Tensors,
        buffers: dict[str, Tensor],
        batch: Any,
        function: Callable[[nn.Module, Any], Tensor] | None = None,
    ) -> Tensor:
        # Buffers go in as copies: batch normalisation in training mode writes to its running statistics.
        put_in = {f"model.{slot.name}": t for slot, t in zip(self.layout, tensors, strict=True)}
        put_in |= {f"model.{name}": b.clone() for name, b in buffers.items()}
        return torch.func.functional_call(self._module, put_in, (batch, function))

    # ------------------------------------------------------------------------------------------------------ private

    @contextmanager
    def _ready(self) -> Iterator[None]:
        with thread_count(self._threads), measuring(self.model, self.mode):
            yield

    def _at(self, w: Tensor | None) -> Point:
        """The point for ``w``: the last one again while neither the vector nor the constants have changed."""
        flat = self.parameters() if w is None else self._checked(w)
        constants = self._constants()
        last = self._point
        if (
            last is not None
            and torch.equal(last.flat, flat)
            and last.buffers.keys() == constants.keys()
            and all(torch.equal(last.buffers[name], c) for name, c in constants.items())
        ):
            return last
        kept = {name: c.clone() for name, c in constants.items()}
        with torch.inference_mode(False):
            flat = flat.detach().clone()
            leaves = [t.detach().clone().requires_grad_() for t in self.split(flat)]
        self._point = Point(flat, leaves, kept)
        return self._point

    def _constants(self) -> dict[str, Tensor]:
        """Buffers and frozen parameters, in the precision and on the device of the measurement."""
        frozen = ((n, p) for n, p in self.model.named_parameters() if not p.requires_grad)
        return {
            name: t.detach().to(self.device, self.dtype if t.is_floating_point() else t.dtype)
            for name, t in (*self.model.named_buffers(), *frozen)
        }

    def _fresh_gradient(self, point: Point) -> tuple[Tensor, Tensor]:
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        gradient = torch.zeros_like(point.flat)
        for chunk in self.chunks():
            value = chunk.share * self.loss_of(point.tensors, point.buffers, chunk.batch)
            found = torch.autograd.grad(value, point.tensors, allow_unused=True, materialize_grads=True)
            loss += value.detach()
            self.join(found, gradient)
        return loss, gradient

    def _product(self, V: Tensor, w: Tensor | None, kind: Kind) -> Tensor:
        if V.ndim not in (1, 2) or V.shape[0] != self.size:
            raise InputError(
                f"a block of vectors of shape {tuple(V.shape)}",
                expected=f"shape ({self.size},) or ({self.size}, k), one row a parameter",
            )
        rows = (V[None, :] if V.ndim == 1 else V.T).to(self.device, self.dtype)
        point = self._at(w)
        if kind == "gauss-newton":
            result = self._gauss_newton(point, rows)
        else:
            had_graphs = point.graphs is not None
            result = self._hessian(point, rows)
            built = isinstance(self._plans[_bucket(rows.shape[0])][0], DoubleBackward) and not had_graphs
            self.spent += Cost(gradients=int(built))
        self.spent += Cost(products=rows.shape[0])
        result = self._summed(result) + self.l2 * rows
        return result[0] if V.ndim == 1 else result.T

    def _hessian(self, point: Point, rows: Tensor) -> Tensor:
        known = self._plans.get(_bucket(rows.shape[0]))
        if known is not None and point.graphs is not None and isinstance(known[0], DoubleBackward):
            # The graphs are there: no code of the model runs, so nothing of it has to be switched.
            with thread_count(self._threads), torch.inference_mode(False), torch.enable_grad():
                return known[0].products(self, point, rows)
        with self._ready():
            path, _ = self._planned(rows.shape[0], point)
            try:
                result = path.products(self, point, rows)
            except (RuntimeError, NotImplementedError) as error:
                raise named_fault(error) from error
        if point.loss is not None and point.graphs is not None and self.group is not None:
            point.loss = point.gradient = None  # sums over this rank's data only
        return result

    def _gauss_newton(self, point: Point, rows: Tensor) -> Tensor:
        supervised = self._supervised("Gauss-Newton products")
        result = torch.zeros_like(rows)
        with self._ready():
            self._settle_threads(point)
            self._fit_memory(point)
            try:
                for chunk in self.chunks():
                    outputs = self._call(point.tensors, point.buffers, chunk.batch, supervised.outputs)
                    graph = GaussNewtonGraph(
                        outputs,
                        lambda z, chunk=chunk: chunk.share * supervised.criterion_of(z, chunk.batch),
                        point.tensors,
                    )
                    for row, total in zip(rows, result, strict=True):
                        self.join(graph.product(self.split(row)), total)
            except (RuntimeError, NotImplementedError) as error:
                raise named_fault(error) from error
        return result

    def _planned(self, width: int, point: Point | None = None) -> tuple[Path, Plan]:
        bucket = _bucket(width)
        if bucket not in self._plans:
            here = point or self._at(None)
            self._settle_threads(here)
            if self._wanted_path != "auto":
                path, cost = make_path(self._wanted_path), float("nan")
            else:
                graph = self._fit_memory(here)
                path, seconds = choose_path(
                    self,
                    lambda: here,
                    bucket,
                    gradient_seconds=self._gradient_seconds,
                    graph_bytes=graph,
                    memory_limit=self.memory_limit,
                    expected_products=self._expected_products,
                    double_backward_only=self._whole_batches,
                )
                cost = seconds / self._gradient_seconds
            threads = self._threads or torch.get_num_threads()
            self._plans[bucket] = (path, Plan(path.name, threads, bucket, cost, self._gradient_seconds))
        return self._plans[bucket]

    def _settle_threads(self, point: Point) -> None:
        if self._gradient_seconds == self._gradient_seconds:
            return
        if self._wanted_threads == "auto" or self._wanted_path == "auto":
            chosen, self._gradient_seconds = choose_threads(lambda: self._fresh_gradient(point))
            if self._wanted_threads == "auto":
                self._threads = chosen
                torch.set_num_threads(chosen)  # until the surrounding thread_count gives the user's setting back

    def _fit_memory(self, point: Point) -> int:
        """The bytes that kept graphs of all data need; cuts batches smaller where not even one batch's graph fits."""
        if self._graph_bytes is not None:
            return self._graph_bytes
        batch = next(iter(self._batches))
        size = leading_size(batch)
        sample = size if self._whole_batches else max(1, min(size, 32))
        try:
            each = graph_bytes(
                lambda: GradientGraph(
                    self.loss_of(point.tensors, point.buffers, piece_of(batch, 0, sample)), point.tensors
                ),
                point.tensors,
            )
        except (RuntimeError, NotImplementedError) as error:
            raise named_fault(error) from error
        a_sample = each / sample
        allowed = budget(self.device, self.memory_limit)
        largest = max(leading_size(b) for b in self._batches)
        held = 8 * self.size * point.flat.element_size()
        if a_sample * min(largest, self._batches.cut or largest) + held > allowed:
            fitting = int((allowed - held) / max(a_sample, 1))
            if self._whole_batches or fitting < 1:
                least = largest if self._whole_batches else 1
                require(
                    int(a_sample * least) + held,
                    f"a curvature product on {least} samples and {self.size:,} parameters",
                    device=self.device,
                    limit=self.memory_limit,
                    hint="smaller batches, fewer parameters, or a higher memory_limit",
                )
            self._cut_to(min(fitting, self._batches.cut or fitting), point)
        self._graph_bytes = int(a_sample * self._batches.samples)
        return self._graph_bytes

    def _cut_to(self, samples: int, point: Point) -> None:
        """Cut batches, after making sure that the loss is a mean over samples, so that cutting does not change it."""
        batch = next(iter(self._batches))
        whole = float(self.loss_of([t.detach() for t in point.tensors], point.buffers, batch))
        self._batches.cut = samples
        pieces = list(self._batches._pieces(batch))
        weights = [self._batches._count(p) for p in pieces]
        parts = [float(self.loss_of([t.detach() for t in point.tensors], point.buffers, p)) for p in pieces]
        mean = sum(x * n for x, n in zip(parts, weights, strict=True)) / sum(weights)
        if abs(mean - whole) > 1e-3 * max(abs(whole), 1e-12):
            raise InputError(
                f"batches must be cut to {samples} samples to fit into {readable(budget(self.device, self.memory_limit))},"
                f" but the loss is not a mean over samples ({whole:.6g} whole, {mean:.6g} in pieces)",
                hint="smaller batches in the data, or count= with the weight that the loss divides by",
            )

    def _summed(self, value: Tensor) -> Tensor:
        if self.group is not None:
            value = value.contiguous()
            distributed.all_reduce(value, group=self.group)
        return value

    def _supervised(self, what: str) -> Any:
        if not all(hasattr(self.loss_fn, name) for name in ("outputs", "targets", "criterion_of")):
            raise NotKnownError(
                f"this loss function does not tell outputs and criterion apart, which {what} need",
                hint="edgescope.supervised(criterion)",
            )
        return self.loss_fn

    def _checked(self, w: Tensor) -> Tensor:
        if w.shape != (self.size,):
            raise InputError(f"a parameter vector of shape {tuple(w.shape)}", expected=f"shape ({self.size},)")
        return w.detach().to(self.device, self.dtype)

    def _check(self) -> None:
        point = self._at(None)
        batch = next(iter(self._batches))
        if not self._whole_batches:
            batch = piece_of(batch, 0, min(leading_size(batch), 256))
        with self._ready():
            loss = evaluated(lambda: self.loss_of(point.tensors, point.buffers, batch))
            if not loss.requires_grad:
                refuse_independent((None,))
            try:
                refuse_independent(torch.autograd.grad(loss, point.tensors, allow_unused=True))
            except EdgescopeError:
                raise
            except RuntimeError as error:
                raise named_fault(error) from error
            with torch.no_grad():
                refuse_random(lambda: self.loss_of(point.tensors, point.buffers, batch))
                refuse_not_finite(loss)


def _layout(tensors: dict[str, Tensor]) -> list[Slot]:
    slots, start = [], 0
    for name, tensor in tensors.items():
        slots.append(Slot(name, tensor.shape, slice(start, start + tensor.numel())))
        start += tensor.numel()
    return slots


def _own_precision(tensors: list[Tensor]) -> torch.dtype:
    """The widest type among the parameters, and at least float32: curvature in half precision is noise."""
    widest = torch.float32
    for tensor in tensors:
        widest = torch.promote_types(widest, tensor.dtype)
    return widest


def _bucket(width: int) -> int:
    """Block widths that share one plan: 1, 2 to 4, 5 to 8, and more."""
    return next((edge for edge in (1, 4, 8) if width <= edge), 16)
