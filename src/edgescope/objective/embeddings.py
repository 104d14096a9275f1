"""Embeddings: rows that never train, and options under which a loss is no function of its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from edgescope.errors import InputError
from edgescope.objective.watching import Watching


class EmbeddingCalls(Watching):
    """Sees every embedding that runs: ``padding`` is the padding row of each weight, by the identity of the tensor.

    Weights are left out that other embeddings share without this padding row, because these train it.

    Raises :class:`InputError` for options that cannot be measured: ``max_norm`` (weights rewritten in the forward
    pass), ``scale_grad_by_freq`` (a gradient that is not that of the loss), ``sparse`` in a functional call.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[int, set[int]] = {}

    @property
    def padding(self) -> dict[int, int]:
        """The padding row of each weight that has one."""
        alone = {weight: next(iter(rows)) for weight, rows in self._rows.items() if len(rows) == 1}
        return {weight: row for weight, row in alone.items() if row >= 0}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name == "embedding_renorm_":
            raise _refused("max_norm", "which rewrites its weights at every forward pass", "max_norm=None")
        if name == "embedding":
            given = dict(zip(("weight", "indices", "padding", "by_frequency", "sparse"), args, strict=False))
            self._rows.setdefault(id(given["weight"]), set()).add(int(given.get("padding", -1)))
            _refuse_options(given)
        elif name in ("_embedding_bag", "_embedding_bag_forward_only"):
            _refuse_options(
                dict(zip(("weight", "indices", "offsets", "by_frequency", "mode", "sparse"), args, strict=False))
            )
        return func(*args, **(kwargs or {}))


def constant_rows(
    tensors: Sequence[Tensor], gradients: Sequence[Tensor | None], calls: EmbeddingCalls
) -> dict[int, int]:
    """Which row of which tensor never trains: the padding row, unless it has a gradient there (tied weights)."""
    found = {}
    for place, (tensor, gradient) in enumerate(zip(tensors, gradients, strict=True)):
        row = calls.padding.get(id(tensor))
        if row is not None and (gradient is None or not bool(gradient[row].any())):
            found[place] = row
    return found


def _refuse_options(given: dict[str, Any]) -> None:
    if given.get("by_frequency"):
        why = "with which its gradient is not that of the loss"
        raise _refused("scale_grad_by_freq", why, "scale_grad_by_freq=False")
    if given.get("sparse"):
        raise _refused("sparse", "in a functional call, whose gradient has no derivative", "sparse=False")


def _refused(option: str, why: str, hint: str) -> InputError:
    return InputError(f"an embedding with {option}, {why}", expected="an embedding without it", hint=hint)
