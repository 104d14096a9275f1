"""The objective: the training loss as a function of one flat parameter vector, over all of its data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.distributed as distributed
from jaxtyping import Float
from torch import Tensor, nn

from edgescope.cost import Cost, Meter
from edgescope.errors import InputError, ModelChangedError
from edgescope.linalg.operator import Operator
from edgescope.linalg.product_errors import ProductErrors
from edgescope.losses import accuracy_counts
from edgescope.notices import Notices
from edgescope.objective.batch_weights import agreed
from edgescope.objective.batches import Batches, Count
from edgescope.objective.checks import (
    checked_rows,
    checked_supervised,
    checked_vector,
    refuse_options,
    usable_device,
)
from edgescope.objective.curvature import Curvature
from edgescope.objective.holdable_point import HoldablePoint
from edgescope.objective.layout import Layout
from edgescope.objective.modes import THAWED, Flags, Mode, UsedMode
from edgescope.objective.modules import measuring, own_precision, refuse_parameters, unwrapped
from edgescope.objective.parallel import gather, refuse_parallel, reshard
from edgescope.objective.plan import PathName, Plan, Planner
from edgescope.objective.problem import LossFunction, Point, TrainingProblem
from edgescope.objective.problem_checks import ProblemChecks, warn_of_processes
from edgescope.objective.processes import jointly, summed_over
from edgescope.objective.selection import Params, selection
from edgescope.objective.structure import Change
from edgescope.objective.training_difference import losses_in_training
from edgescope.options import check_bool, checked, integer, optional, real
from edgescope.shards import write
from edgescope.short_errors import short_errors

Kind = Literal["hessian", "gauss-newton"]


@short_errors
class Objective:
    """Loss, gradient and curvature products of a model on data, as functions of one flat vector.

    Args:
        model: any ``nn.Module``; compiled and data-parallel wrappers are seen through. It is left as it was:
            parameters, buffers, ``.grad``, train/eval mode, and every random generator.
        loss_fn: ``loss_fn(model, batch)`` returns the mean loss of the batch, a scalar. ``edgescope.supervised`` makes
            one from a criterion; only such a one can also give Gauss-Newton products and accuracies.
        data: one batch (a tensor, a dict, a tuple or list of tensors), a list of batches, a DataLoader, or any
            re-iterable. Batches are weighted by what their loss is a mean over (samples, targets that are not ignored,
            class weights). They are copied into memory if they fit.
        mode: how the model computes while it is measured. "auto" (default) is as close to training as a deterministic
            function can be: batch statistics if the model normalises by them in training, dropout off, everything else
            as in evaluation. "batch-statistics" and "eval" select one of the two explicitly. "train" sets every module
            to training mode, and refuses dropout. With batch statistics a batch is never split. Running statistics are
            never changed.
        params: the parameters to differentiate by; all others are constants. Names with wildcards ("blocks.*.attn.*"),
            modules, optimizers (for their parameters), parameters, or a list of these. By default all trainable
            parameters.
        l2: adds ``l2 / 2 * ||w||^2`` to the loss.
        dtype: precision of the measurement; the model's own by default (float32 for half-precision models). With
            ``torch.float64`` a float32 model is measured in float64, without being changed. Autocast is switched off.
        device: where to measure; the model's own device by default. Model and data are not moved in place.
        chunk: split batches into pieces of at most this many samples; refused if the loss is not a mean over samples.
            By default batches are split only if their graph would not fit into memory.
        count: function that returns the weight of a batch, for losses whose denominator is not found automatically.
        path: name of a method for Hessian products; "auto" times the methods and keeps the fastest. "difference" needs
            first derivatives only; it is never chosen by "auto", and every result carries its error.
        threads: number of CPU threads; "auto" times one thread against the present setting; None keeps the setting.
        expected_products: number of products that the whole run will need; a large number allows paths that are slow to
            build.
        memory_limit: bytes that a measurement may use; 80% of what is free by default.
        group: a ``torch.distributed`` process group over which the data are sharded; sums run over its ranks, which
            must all make the same calls.
        check: check before the first measurement that the data are finite and the same at every pass, and that the loss
            is deterministic, twice differentiable and that of the live model; and find what it is a mean over.

    ``notices`` are caveats about the measurements; each is also issued as an :class:`EdgescopeWarning`.

    Raises:
        InputError: empty or NaN data, a loss that is not a finite scalar, does not depend on the parameters, is not the
            live model's or cannot be averaged over batches.
        NotDeterministicError: dropout, sampling, or data that change between passes.
        NotDifferentiableError: a custom autograd function with a wrong second derivative.

    Cost of the checks: at construction three losses and a gradient on at most 256 samples, two losses of 32 samples,
    the losses of about 400 samples in small batches and in float64, two losses and two gradients of 32 samples, and two
    more passes over the data; before the first Hessian product about five gradients of 32 samples. Of large models on
    long sequences fewer samples. Products are the same bit for bit in every run if path and threads are fixed.
    """

    @checked(
        l2=real(least=0),
        chunk=optional(integer(1)),
        expected_products=optional(integer(1)),
        memory_limit=optional(integer(1)),
        check=check_bool,
    )
    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        data: Any,
        *,
        mode: Mode = "auto",
        params: Params | None = None,
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
        self._sharded = refuse_parallel(model, group)
        refuse_options(model, loss_fn, mode=mode, dtype=dtype, count=count)
        self.model = unwrapped(model)
        self.loss_fn = loss_fn
        self.l2 = l2
        self.group = group
        self.meter = Meter()
        self.notices = Notices()
        refuse_parameters(self.model)
        gathered = gather(self.model)
        self._flags = Flags(self.model, mode)
        chosen = selection(self.model, params)
        whole_batches = self._flags.couples_samples(self.model)
        if chunk is not None and whole_batches:
            raise InputError(
                "chunk= with batch statistics would change the loss", hint="mode='eval', or smaller batches in the data"
            )
        own = [p for p in self.model.parameters() if p.requires_grad]
        self.dtype = dtype or own_precision(own)
        self.device = usable_device(own[0].device if device is None else device)
        warn_of_processes(model, group, self.notices)
        with jointly(self._summed):
            batches = Batches(data, count=count, dtype=self.dtype, device=self.device, check=check)
            self._problem = TrainingProblem(
                self.model,
                loss_fn,
                batches,
                dtype=self.dtype,
                device=self.device,
                chosen=chosen,
                meter=self.meter,
                gathered=gathered,
            )
            checks = ProblemChecks(self._problem, self._flags, self.notices, whole_batches=whole_batches, group=group)
            found = checks.first(weights=check)
        found = found if found is None or group is None else agreed(found, group)
        with jointly(self._summed):
            checks.rest(found)
            planner = Planner(
                self._problem,
                path=path,
                threads=threads,
                expected_products=expected_products,
                memory_limit=memory_limit,
                whole_batches=whole_batches,
                check=check,
            )
            self._curvature = Curvature(self._problem, planner, self._flags, verified=not check)
            if chunk is not None:
                point = self._at(None)
                with self._curvature.ready(point, derivatives=False):
                    self._problem.cut(chunk, point, f"chunk={chunk} would cut the batches")
        self._problem.total = float(self._summed(torch.tensor(batches.samples, dtype=torch.float64, device="cpu")))
        self._samples = int(self._summed(torch.tensor(batches.rows, device="cpu")))
        self._problem.gathered = {}
        self.meter.constructed()

    # ------------------------------------------------------------------------------------------------ the function

    @property
    def mode(self) -> UsedMode:
        """How the model computes while it is measured: "eval", "train" or "batch-statistics"; "auto" becomes one."""
        return self._flags.mode

    @property
    def couples_samples(self) -> bool:
        """Whether samples of a batch are coupled by batch statistics."""
        return self._flags.couples_samples(self.model)

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
        """The model's live trainable tensors, in order; ModelChangedError where they are others by now."""
        return self._problem.tensors()

    def left_in_evaluation(self) -> list[str]:
        """Layers that are measured with the statistics of their batch, while the whole model is in evaluation now."""
        return self._flags.left_in_evaluation(self.model)

    def changes(self) -> list[Change]:
        """What has happened to the parameters since the objective was made: replaced, added, frozen, cast, ..."""
        return self._problem.changes()

    @property
    def samples(self) -> int:
        """The number of samples, over all processes of the group, whatever they weigh."""
        return self._samples

    def parameters(self) -> Float[Tensor, " P"]:
        """A copy of the model's trainable parameters now, in the precision of the measurement."""
        return self._problem.live()

    def assign(self, w: Float[Tensor, " P"]) -> None:
        """Write ``w`` into the model: the only method that changes it."""
        w = self._checked(w)
        with torch.no_grad():
            for tensor, piece in zip(self.tensors, self.layout.split(w), strict=True):
                write(tensor, piece)

    def loss(self, w: Float[Tensor, " P"] | None = None) -> Float[Tensor, ""]:
        """The loss at ``w`` (the model's own parameters by default), a float64 scalar.

        Cost: one loss; nothing where a gradient or a product was taken at the same place. The loss at the model's own
        parameters is known, as that of the model as it is, even after these have become others than those of the
        objective (layers added, thawed, reshaped), where everything else raises :class:`ModelChangedError`.
        """
        try:
            point = self._at(w)
        except ModelChangedError:
            if w is not None or self.l2:
                raise
            with measuring(self.model, self._flags, self.device), torch.no_grad():
                found = self._problem.loss_of_live_model()
            self.meter.count(losses=1)
            return self._summed(found)
        if point.loss is None:
            with self._curvature.ready(point, derivatives=False), torch.no_grad():
                total = torch.zeros((), dtype=torch.float64, device=self.device)
                for chunk in self._problem.chunks():
                    total += self._problem.part(point, chunk)
                point.loss = total
            self.meter.count(losses=1)
        loss = self._summed(point.loss)
        if not self.l2:
            return loss.clone()
        return loss + 0.5 * self.l2 * self._problem.masked(point.flat.double()).square().sum()

    def gradient(self, w: Float[Tensor, " P"] | None = None) -> Float[Tensor, " P"]:
        """The gradient at ``w``, the same bits whatever was measured before.

        Cost: one gradient; nothing where a Hessian product was taken at the same place, unless this model's kernels
        round the gradient otherwise when it is to be differentiated again.
        """
        point = self._at(w)
        self.meter.count(gradients=self._curvature.gradient(point))
        assert point.gradient is not None
        return self._summed(point.gradient) + self.l2 * self._problem.masked(point.flat)

    def hvp(self, V: Tensor, w: Float[Tensor, " P"] | None = None) -> Tensor:
        """Hessian products at ``w`` with one vector ``(P,)`` or with the columns of ``(P, k)``, all at once.

        Cost: k products (see ``plan().product_cost``) and, where graphs are kept, one gradient the first time at a
        place. Raises NotDifferentiableError where an operation has no second derivative.
        """
        return self._product(V, lambda: self._at(w), "hessian")

    def gnvp(self, V: Tensor, w: Float[Tensor, " P"] | None = None) -> Tensor:
        """Gauss-Newton products J^T (d2 criterion) J V, mean over samples, plus the l2 term; shapes as in ``hvp``.

        Needs a loss function that tells outputs and criterion apart, such as ``edgescope.supervised`` makes. Cost: k
        products and, where graphs are kept, one gradient the first time at a place.
        """
        return self._product(V, lambda: self._at(w), "gauss-newton")

    def operator(self, w: Float[Tensor, " P"] | None = None, kind: Kind = "hessian") -> Operator:
        """The Hessian (or Gauss-Newton matrix) at ``w`` as an operator; at the live parameters when w is None."""
        if kind not in ("hessian", "gauss-newton"):
            raise InputError(f"kind '{kind}'", expected="'hessian' or 'gauss-newton'")
        given = None if w is None else self._checked(w).clone()
        place = HoldablePoint(lambda: self._at(given))
        return Operator(
            self.size,
            lambda block: self._product(block, place.point, kind, finite=True),
            dtype=self.dtype,
            device=self.device,
            shapes=self.shapes,
            mode=self.mode,
            room=lambda least: self._curvature.room(place.point(), least, self.group, kind == "hessian"),
            meter=self.meter,
            errors=self.product_errors if kind == "hessian" else None,
            hold=place.held,
        )

    @property
    def product_errors(self) -> ProductErrors | None:
        """The measured errors of Hessian products, where ``path="difference"`` makes them inexact; else None."""
        return self._curvature.planner.differences

    def outputs(self, w: Float[Tensor, " P"] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Model outputs and targets of this process's data, chunk by chunk, without gradients. Cost: one loss."""
        supervised = checked_supervised(self.loss_fn, "outputs and targets")
        return self._outputs(self._at(w), supervised)

    def accuracy(self, w: Float[Tensor, " P"] | None = None) -> float:
        """The share of samples (or tokens) whose largest output is that of the target class. Cost: one loss."""
        counts = torch.zeros(2, dtype=torch.float64, device="cpu")
        for outputs, targets in self.outputs(w):
            counts += torch.tensor(accuracy_counts(outputs, targets), device="cpu")
        right, total = self._summed(counts).tolist()
        return right / total

    # ---------------------------------------------------------------------------------------------------- the means

    @checked(width=integer(1))
    def plan(self, width: int = 1) -> Plan:
        """How products of blocks of ``width`` vectors are computed here; timed on first use, then remembered.

        What the timing takes is counted in ``spent`` as preparation.
        """
        return self._curvature.plan(self._at(None), width)

    def loss_in_training_mode(self) -> tuple[float, float, str] | None:
        """The loss of at most 32 samples as measured, the same in training mode, and what is random in that.

        None where it cannot be had. Cost: three losses of 32 samples, counted as preparation.
        """
        return losses_in_training(self._problem, self._at(None), self._flags)

    @property
    def spent(self) -> Cost:
        """Everything that was computed with this objective so far, as :attr:`meter` counts it, checks and all."""
        return self.meter.total

    def release(self) -> None:
        """Free the stored graphs (hundreds of MiB for large models); the next product builds them again."""
        self._problem.forget()

    # ------------------------------------------------------------------------------------------------------ private

    def _at(self, w: Tensor | None) -> Point:
        if self._sharded:
            reshard(self.model)
        if self._flags.follow(self.model):
            self._problem.forget()
        for name in self._flags.thawed(self.model)[:1]:
            hint = "a new Objective"
            self.notices.give("mode", f"'{name}' {THAWED}", faq="thawed-layers", hint=hint, cause="thawed")
        return self._problem.point(None if w is None else self._checked(w))

    def _product(self, V: Tensor, find: Callable[[], Point], kind: Kind, *, finite: bool = False) -> Tensor:
        """Products with a vector or the columns of a block; ``finite``: the caller looks at them, where V is not."""
        path = self._curvature.planner.differences if kind == "hessian" else None
        rows = checked_rows(V, self.size, self.device, self.dtype, finite=finite and path is None)
        rows = self._problem.masked(rows)
        if kind == "gauss-newton":
            supervised = checked_supervised(self.loss_fn, "Gauss-Newton products")
            found, gradients = self._curvature.gauss_newton(find(), rows, supervised)
        elif path is None:
            found, gradients = self._curvature.hessian(find(), rows)
        else:
            found, gradients = self._curvature.differences(path, self._summed, find(), rows)
        result = self._problem.masked(found if path is not None else self._summed(found))
        if self.l2:
            result = result + self.l2 * rows
        self.meter.count(gradients=gradients, products=rows.shape[0])
        return result[0] if V.ndim == 1 else result.T

    def _outputs(self, point: Point, supervised: Any) -> Iterator[tuple[Tensor, Tensor]]:
        self.meter.count(losses=1)
        for chunk in self._problem.chunks():
            with self._curvature.ready(point, derivatives=False), torch.no_grad():
                found = self._problem.call(point.tensors, point.constants, chunk.batch, supervised.outputs)
            yield found, supervised.targets(chunk.batch)

    def _summed(self, value: Tensor) -> Tensor:
        """The sum over all processes of the group; one exchange a call, whatever this process has kept."""
        return summed_over(self.group, value, self.device)

    def _checked(self, w: Tensor) -> Tensor:
        return checked_vector(w, self.size, self.device, self.dtype)
