"""A metric on parameter space (a preconditioner): the symmetric positive map whose inverse multiplies the Hessian."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError


class Metric(ABC):
    """A symmetric positive definite map M. The effective Hessian is M^(-1/2) H M^(-1/2), similar to M^(-1) H."""

    size: int

    @abstractmethod
    def inverse_root(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        """M^(-1/2) times the columns of ``block``."""

    @abstractmethod
    def root(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        """M^(1/2) times the columns of ``block``."""


class Diagonal(Metric):
    """The metric of an element-wise preconditioner: M = diag(entries), all positive and finite."""

    def __init__(self, entries: Float[Tensor, " P"]) -> None:
        if entries.ndim != 1 or not bool((torch.isfinite(entries) & (entries > 0)).all()):
            raise InputError(
                "a preconditioner with entries that are not positive and finite",
                expected="one positive number a parameter",
            )
        self.size = entries.shape[0]
        self.entries = entries
        self._root = entries.sqrt()

    def inverse_root(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        return block / self._root.to(block.dtype)[:, None]

    def root(self, block: Float[Tensor, "P k"]) -> Float[Tensor, "P k"]:
        return block * self._root.to(block.dtype)[:, None]
