"""Metrics on parameter space: symmetric positive definite maps, such as the preconditioner of an optimizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from edgescope.errors import InputError
from edgescope.linalg.arguments import as_tensor
from edgescope.options import type_of
from edgescope.short_errors import short_errors


class Metric(ABC):
    """A symmetric positive definite map M. The effective Hessian is M^(-1/2) H M^(-1/2), similar to M^(-1) H.

    Parameters may be declared constant: M is infinite for them, and they drop out of the effective Hessian. M^(-1/2) is
    0 for them, and so is M^(1/2), which here means the pseudo-inverse of M^(-1/2).
    """

    size: int

    @abstractmethod
    def inverse_root(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        """M^(-1/2) times the columns of ``block``."""

    @abstractmethod
    def root(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        """M^(1/2) times the columns of ``block``."""


@short_errors
class DiagonalMetric(Metric):
    """The metric of an element-wise preconditioner: M = diag(entries), with positive and finite entries (P,).

    ``constant`` (P,) is True for the parameters that are constant; their entries are replaced by infinity.
    """

    def __init__(
        self, entries: Num[Tensor, " P"] | Num[np.ndarray, " P"], constant: Bool[Tensor, " P"] | None = None
    ) -> None:
        one = "one positive number for each parameter"
        entries = as_tensor("the entries of a DiagonalMetric", entries, one)
        entries = entries if entries.is_floating_point() else entries.double()
        usable = torch.isfinite(entries) & (entries > 0)
        if constant is not None:
            constant = as_tensor("the constants of a DiagonalMetric", constant, "True or False for each parameter")
            if constant.dtype != torch.bool or constant.shape != entries.shape:
                raise InputError(
                    f"constants of {str(constant.dtype).removeprefix('torch.')} and shape {tuple(constant.shape)} for "
                    f"entries of shape {tuple(entries.shape)}",
                    expected="True or False for each entry",
                )
            usable = usable | constant
        if entries.ndim != 1 or not entries.numel():
            raise InputError(f"a preconditioner of shape {tuple(entries.shape)}", expected=one)
        if not bool(usable.all()):
            raise InputError("a preconditioner with entries that are not positive and finite", expected=one)
        self.size = entries.shape[0]
        self.entries = entries if constant is None else entries.masked_fill(constant, torch.inf)
        self._inverse_root = self.entries.sqrt()  # divided by: infinite entries then give 0
        self._root = self._inverse_root if constant is None else self._inverse_root.masked_fill(constant, 0.0)

    def inverse_root(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        self._inverse_root = self._inverse_root.to(block.device)  # once, not at every product
        return block / self._inverse_root.to(block.dtype)[:, None]

    def root(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        self._root = self._root.to(block.device)
        return block * self._root.to(block.dtype)[:, None]


def check_metric(owner: str, name: str, value: Any, *, hint: str | None = None) -> Metric | None:
    """``value`` as a metric with a size, or None; the error message says how to make one."""
    if value is None or (isinstance(value, Metric) and isinstance(getattr(value, "size", None), int)):
        return value
    fault = f"{value!r}" if isinstance(value, str) else type_of(value)
    fault = f"{type(value).__name__} without a size" if isinstance(value, Metric) else fault
    raise InputError(
        f"{owner} with a metric that is {fault}",
        expected="a Metric, such as linalg.DiagonalMetric(entries) with one positive number a parameter, or None",
        hint=hint or "rule_for(optimizer, objective.tensors).metric(), the metric of an optimizer",
    )


class BlockMetric(Metric):
    """A block-diagonal metric: one metric for each of several disjoint sets of parameters; all others are constant.

    ``parts`` are pairs of a metric and the slices of the parameter vector (of length ``size``) that it acts on, in
    their order.
    """

    def __init__(self, size: int, parts: Sequence[tuple[Metric, Sequence[slice]]]) -> None:
        self.size = size
        self._parts = [(metric, list(slices)) for metric, slices in parts]
        for metric, slices in self._parts:
            length = sum(s.stop - s.start for s in slices)
            if length != metric.size:
                raise InputError(f"a metric of size {metric.size} for {length} parameters", expected="equal sizes")

    def inverse_root(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        return self._apply(block, lambda metric, piece: metric.inverse_root(piece))

    def root(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        return self._apply(block, lambda metric, piece: metric.root(piece))

    def _apply(self, block: Tensor, power: Callable[[Metric, Tensor], Tensor]) -> Tensor:
        result = torch.zeros_like(block)
        for metric, slices in self._parts:
            moved = power(metric, torch.cat([block[s] for s in slices]))
            for s, piece in zip(slices, moved.split([s.stop - s.start for s in slices]), strict=True):
                result[s] = piece
        return result
