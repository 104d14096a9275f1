"""Targets that a teacher gives: linear with known correlations, or a two-layer network."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.data.synthetic import Synthetic, generator_of
from edgescope.errors import InputError
from edgescope.memory import require
from edgescope.options import SHOWN, as_text, integer


class _Taught(Synthetic):
    """x from N(0, I); the error is that of half-squared losses here."""

    quantity: ClassVar[str] = "half the squared error, summed over targets"
    smallest: ClassVar[int] = 1

    @abstractmethod
    def target(self, inputs: Float[Tensor, "N dim"]) -> Float[Tensor, "N K"]: ...

    def sample(
        self, count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "count dim"], Float[Tensor, "count K"]]:
        inputs = torch.randn(count, self.dim, generator=generator, device="cpu")
        return inputs, self.target(inputs)

    def errors(self, outputs: Float[Tensor, "N K"], targets: Float[Tensor, "N K"]) -> Float[Tensor, "N 1"]:
        return 0.5 * (outputs - targets).square().sum(1, keepdim=True)


@dataclass(frozen=True)
class Teacher(_Taught):
    """Jointly Gaussian x and y with the correlations ``signals``: y_k = s_k x_k + sqrt(1 - s_k^2) noise, x of N(0, I).

    Inputs beyond the signals say nothing of the targets. The data of deep linear phases (Ersoy, Wiesner 2026, arXiv
    2606.17120, who take 512 samples and signals 0.9 and 0.8). No model has a population error below that of the noise,
    half the sum of 1 - s_k^2.
    """

    name: ClassVar[str] = "teacher"
    what: ClassVar[str] = "jointly Gaussian, y_k = s_k x_k + sqrt(1 - s_k^2) noise"

    dim: int = 2
    signals: tuple[float, ...] = (0.9, 0.8)

    def __post_init__(self) -> None:
        self._check()
        if not 1 <= len(self.signals) <= self.dim or not all(abs(s) <= 1 for s in self.signals):
            raise InputError(
                f"{self.owner} with signals={as_text(self.signals)[:SHOWN]} and dim={self.dim}",
                expected="correlations from -1 to 1, at most one for each input",
            )

    def sample(
        self, count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "count dim"], Float[Tensor, "count K"]]:
        inputs, known = super().sample(count, generator)
        noise = torch.randn(known.shape, generator=generator, device="cpu")
        return inputs, known + (1 - torch.tensor(self.signals, device="cpu").square()).sqrt() * noise

    def target(self, inputs: Float[Tensor, "N dim"]) -> Float[Tensor, "N K"]:
        return inputs[:, : len(self.signals)] * torch.tensor(self.signals, device="cpu").to(inputs)


@dataclass(frozen=True)
class TeacherNetwork(_Taught):
    """x from N(0, I), y = B tanh(A x): a two-layer network of ``width`` hidden units, drawn once from ``seed``.

    Entries of A are N(0, 1/dim), those of B N(0, 1/width), so that targets have variance below 1. After Liu et al.
    (2023, arXiv 2210.01117), whose teacher has 5 inputs, 5 outputs, 100 hidden units, and one more layer.
    """

    name: ClassVar[str] = "teacher-network"
    what: ClassVar[str] = "x from N(0, I), y = B tanh(A x) with random A and B"

    dim: int = 5
    width: int = 100
    outputs: int = 5

    def __post_init__(self) -> None:
        self._check(width=integer(1), outputs=integer(1))

    def numbers(self) -> int:
        return super().numbers() + 2 * self.width + 2 * self.outputs

    def require_memory(self, count: int) -> None:
        super().require_memory(count)
        require(
            4 * self.width * (self.dim + self.outputs),
            f"the teacher of {self.owner} with width={self.width:,}",
            hint="a smaller width=",
        )

    def target(self, inputs: Float[Tensor, "N dim"]) -> Float[Tensor, "N K"]:
        generator = generator_of(self.seed, "teacher")
        first = torch.randn(self.dim, self.width, generator=generator, device="cpu") / self.dim**0.5
        second = torch.randn(self.width, self.outputs, generator=generator, device="cpu") / self.width**0.5
        return (inputs @ first.to(inputs)).tanh() @ second.to(inputs)
