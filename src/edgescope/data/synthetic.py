"""Data drawn from a distribution that is known whole: a sampler, and the error on all of it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from edgescope.data.dataset import Dataset
from edgescope.data.source import DataSource
from edgescope.errors import InputError
from edgescope.memory import require
from edgescope.options import Check, check_fields, check_int, check_seed, integer

_COPIES = 4
"""Of the inputs in float32, while they are drawn."""

_CHUNK = 10_000
"""Inputs that a model is given at once."""


@dataclass(frozen=True)
class PopulationError:
    """A model's mean error over a distribution: ``value`` +- ``error`` (one standard error; 0 where exact).

    ``cost`` is in model evaluations of single inputs; ``quantity`` says which error.
    """

    value: float
    error: float
    cost: int
    quantity: str


@dataclass(frozen=True)
class Synthetic(DataSource):
    """``train`` and ``test`` independent samples of dimension ``dim`` of a distribution, drawn from ``seed``.

    The test samples are a draw of their own, the same for every size of the training set. Inputs are float32 (N, dim),
    targets real, float32 (N, K).
    """

    name: ClassVar[str]
    what: ClassVar[str]
    quantity: ClassVar[str]
    smallest: ClassVar[int] = 2

    dim: int
    train: int = 100
    test: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        self._check()

    def _check(self, **checks: Check) -> None:
        """Check the options that all have, and by ``checks`` those of one alone."""
        check_fields(self, self.owner, dim=integer(self.smallest), train=integer(1), test=integer(1), **checks)

    @property
    def owner(self) -> str:
        """What the options belong to, for error messages."""
        return f"data set '{self.name}'"

    def numbers(self) -> int:
        """How many numbers are held for each sample while it is drawn, at most."""
        return _COPIES * self.dim

    def require_memory(self, count: int) -> None:
        """Raise :class:`MemoryBudgetError` where so many samples do not fit, before they are drawn."""
        require(
            4 * count * self.numbers(), f"{self.owner} of {count:,} samples", hint="fewer samples, or a smaller dim="
        )

    @abstractmethod
    def sample(
        self, count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "count dim"], Float[Tensor, "count K"]]:
        """``count`` independent inputs and their targets, float32, on the CPU."""

    @abstractmethod
    def errors(
        self, outputs: Float[Tensor, "N K"], targets: Float[Tensor, "N K"]
    ) -> Num[Tensor, "N 1"] | Bool[Tensor, "N 1"]:
        """The error of each output, of which the population error is the mean."""

    def everything(self, most: int) -> Float[Tensor, "N dim"] | None:
        """All inputs there are, equally likely, where these are finitely many and at most so many; None otherwise."""
        return None

    def load(self) -> Dataset:
        self.require_memory(self.train + self.test)
        inputs, targets = self.sample(self.train, generator_of(self.seed, "train"))
        test_inputs, test_targets = self.sample(self.test, generator_of(self.seed, "test"))
        return Dataset(
            name=self.name,
            inputs=inputs,
            targets=targets,
            test_inputs=test_inputs,
            test_targets=test_targets,
            classes=targets.shape[1],
            preprocessing="none",
            source=f"drawn: {self.what}, dimension {self.dim}, seed {self.seed}",
            licence="none needed",
        )

    def population_error(self, model: nn.Module, samples: int = 10_000, seed: int = 0) -> PopulationError:
        """The error of ``model`` over the whole distribution, in evaluation mode; the model is left as it was.

        Exact where the distribution has at most ``samples`` inputs, otherwise the mean over so many fresh ones, which
        are those of no data set. Raises :class:`InputError` for a model without exactly one output, or no samples.
        Cost: ``samples`` evaluations of the model at most.
        """
        samples, seed = check_int("a population error", "samples", samples, least=1), check_seed(self.owner, seed)
        self.require_memory(samples)
        inputs = self.everything(samples)
        exact = inputs is not None
        if inputs is None:
            inputs, targets = self.sample(samples, generator_of(seed, "population"))
        else:
            targets = self.target(inputs)
        like = next(model.parameters())
        pieces = []
        with torch.no_grad(), _evaluating(model):
            for x, y in zip(inputs.split(_CHUNK), targets.split(_CHUNK), strict=True):
                outputs = model(x.to(like))
                if outputs.shape != y.shape:
                    raise InputError(
                        f"outputs of shape {tuple(outputs.shape)} for {len(x)} inputs of data set '{self.name}'",
                        expected=f"{tuple(y.shape)}",
                    )
                pieces.append(self.errors(outputs, y.to(like)).double())
        errors = torch.cat(pieces)
        spread = 0.0 if exact else float(errors.std(correction=0)) / math.sqrt(len(errors))
        return PopulationError(float(errors.mean()), spread, len(errors), self.quantity)

    @abstractmethod
    def target(self, inputs: Float[Tensor, "N dim"]) -> Float[Tensor, "N K"]:
        """The true function, without noise."""


def generator_of(seed: int, part: str) -> torch.Generator:
    """Independent draws for each part. Hashed, since torch's generator on the CPU keeps only 32 bits of its seed."""
    mixed = np.random.SeedSequence([seed, *part.encode()]).generate_state(1)
    return torch.Generator().manual_seed(int(mixed[0]))


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in model.modules()]
    for part, _ in modes:
        part.training = False
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
