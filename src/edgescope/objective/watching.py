"""Modes that see every operation of a loss, without what torch would load for them."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class Watching(TorchDispatchMode):
    """A dispatch mode of this package.

    Torch keeps its compiler out of the code of a mode, for which it imports the compiler, with sympy, at the first
    operation: a second that the first measurement would wait for. Nothing is compiled while these modes are on.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
