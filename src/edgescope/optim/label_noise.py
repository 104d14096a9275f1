"""SGD on targets with fresh noise at every step, which minimises the trace of the Hessian among interpolators."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from edgescope.errors import InputError
from edgescope.optim.hyperparameters import check_group
from edgescope.options import check_optional, integer, real


class LabelNoiseSGD(torch.optim.SGD):
    """``torch.optim.SGD`` that also makes the noise: train on ``optimizer.noisy(targets)`` in place of ``targets``.

    One of two kinds of noise. ``sigma``: +-sigma with equal chances is added to real targets. ``flip``: with this
    probability a target is replaced: a class index by another one of ``classes``, all equally likely, a real target
    (such as -1 or 1) by its negative. ``generator`` draws it (torch's global one otherwise).

    With batches of b samples it converges to a stationary point of L + lr sigma^2/b R, where R tends to 1/4 Tr H for
    lr -> 0 (L with the factor 1/2; Damian, Ma, Lee 2021, arXiv 2106.06530; Blanc et al. 2020, arXiv 1904.09080).

    Raises :class:`InputError` for none or both kinds of noise, or noise out of range. Cost: that of SGD.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        *,
        sigma: float | None = None,
        flip: float | None = None,
        classes: int | None = None,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> None:
        if (sigma is None) == (flip is None):
            raise InputError(
                f"label noise with sigma={sigma} and flip={flip}",
                expected="one of the two",
                hint="sigma=1.0 for real targets, flip=0.1 for classes",
            )
        owner = "optimizer LabelNoiseSGD"
        sigma = check_optional(owner, "sigma", sigma, check=real(above=0))
        flip = check_optional(owner, "flip", flip, check=real(above=0, below=1))
        classes = check_optional(owner, "classes", classes, check=integer(2))
        check_group(owner, {"lr": lr} | options)
        super().__init__(params, lr=lr, **options)
        for group in self.param_groups:
            check_group(owner, group)
        self.sigma, self.flip, self.classes, self.generator = sigma, flip, classes, generator

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("sigma", "flip", "classes", "generator")}
        return super().__getstate__() | own

    def noisy(self, targets: Tensor) -> Tensor:
        """``targets`` with fresh noise, of the same shape and type; a new draw at every call."""
        if self.sigma is not None:
            if not targets.is_floating_point():
                raise InputError(
                    f"label noise sigma on targets of type {targets.dtype}", expected="real targets", hint="flip="
                )
            signs = 2.0 * self._below(2, targets) - 1
            return targets + self.sigma * signs.to(targets.dtype)
        assert self.flip is not None
        chances = torch.rand(targets.shape, generator=self.generator, device=self._device(targets)).to(targets.device)
        replaced = chances < self.flip
        if targets.is_floating_point():
            return torch.where(replaced, -targets, targets)
        if self.classes is None:
            raise InputError("flipped class indices without their number", expected="classes=")
        if targets.numel() and not 0 <= int(targets.min()) <= int(targets.max()) < self.classes:
            raise InputError(f"targets outside 0 to {self.classes - 1}", expected=f"indices of {self.classes} classes")
        others = (targets + 1 + self._below(self.classes - 1, targets)) % self.classes
        return torch.where(replaced, others, targets)

    def _below(self, count: int, like: Tensor) -> Tensor:
        drawn = torch.randint(count, like.shape, generator=self.generator, device=self._device(like))
        return drawn.to(like.device)

    def _device(self, like: Tensor) -> torch.device:
        return like.device if self.generator is None else self.generator.device
