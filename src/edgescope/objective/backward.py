"""Backward passes from several tensors at once, each with the vector that is carried back from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor

from edgescope.objective.layout import Tensors


@overload
def carried_back(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    vectors: Sequence[Tensor],
    *,
    create_graph: bool = ...,
    materialize_grads: Literal[True],
) -> Tensors: ...


@overload
def carried_back(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], vectors: Sequence[Tensor], *, create_graph: bool = ...
) -> Sequence[Tensor | None]: ...


def carried_back(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    vectors: Sequence[Tensor],
    *,
    create_graph: bool = False,
    materialize_grads: bool = False,
) -> Sequence[Tensor | None]:
    """The products of ``vectors`` with the derivatives of ``outputs`` by ``inputs``, whose graph is kept.

    The same as ``torch.autograd.grad(outputs, inputs, vectors)``, bit for bit. That one compares shapes as symbols,
    for which it imports sympy at its first call (0.3 s); a scalar needs no vector, and so does not.
    """
    with torch.enable_grad():
        scalar = _WithGradients.apply(*outputs, *vectors)
    return torch.autograd.grad(
        scalar,
        inputs,
        retain_graph=True,
        create_graph=create_graph,
        allow_unused=True,
        materialize_grads=materialize_grads,
    )


class _WithGradients(torch.autograd.Function):
    """A number, whatever the outputs are, whose gradients by these are the vectors."""

    @staticmethod
    def forward(ctx: Any, *outputs_and_vectors: Tensor) -> Tensor:
        vectors = outputs_and_vectors[len(outputs_and_vectors) // 2 :]
        if any(vector.requires_grad for vector in vectors):
            ctx.save_for_backward(*vectors)
        else:
            ctx.vectors = vectors  # which may be inference tensors, and these cannot be saved
        return outputs_and_vectors[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        vectors: tuple[Tensor, ...] = getattr(ctx, "vectors", None) or ctx.saved_tensors
        return (*vectors, *(None for _ in vectors))
