"""Addition of two numbers modulo a third, which networks first memorise and much later understand."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from edgescope.data.dataset import Dataset
from edgescope.data.source import DataSource
from edgescope.errors import InputError
from edgescope.memory import require
from edgescope.options import check_fields, integer, optional, real

_OWNER = "data set 'modular-addition'"


@dataclass(frozen=True)
class ModularAddition(DataSource):
    """All pairs (a, b) of numbers below ``modulus``, the class of a pair being (a + b) mod ``modulus``.

    The inputs are two one-hot vectors side by side, of length 2 ``modulus``. A random ``share`` of the pairs, drawn
    from ``seed`` (that of the data, not of the run), is for training, the others for testing; ``train`` and ``test``
    take the first of these. ``mirrored=false`` leaves out (b, a) beside (a, b): a network that treats both places alike
    knows the one from the other, and has its test accuracy from memory. Source: Power et al. 2022 (arXiv 2201.02177).
    """

    modulus: int = 97
    share: float = 0.4
    seed: int = 0
    mirrored: bool = True
    train: int | None = None
    test: int | None = None

    def __post_init__(self) -> None:
        count = optional(integer(1))
        share = real(above=0, below=1)
        check_fields(self, _OWNER, modulus=integer(2), share=share, train=count, test=count)
        if not 1 <= self._training() < self._pairs():
            raise InputError(
                f"{_OWNER} with share={self.share:g} of the {self._pairs():,} pairs",
                expected="a share that leaves pairs to train on and pairs to test",
            )

    def load(self) -> Dataset:
        p, total, count = self.modulus, self._pairs(), self._training()
        # The inputs twice, as drawn and as taken; the pairs, their order and their places.
        require(16 * p * total + 64 * p * p, f"{_OWNER} with modulus={p:,}", hint="a smaller modulus")
        pairs = torch.cartesian_prod(torch.arange(p, device="cpu"), torch.arange(p, device="cpu"))
        pairs = pairs if self.mirrored else pairs[pairs[:, 0] <= pairs[:, 1]]
        pairs = pairs[torch.randperm(total, generator=torch.Generator().manual_seed(self.seed), device="cpu")]
        inputs = torch.zeros(total, 2 * p, device="cpu").scatter_(1, pairs + torch.tensor([0, p], device="cpu"), 1.0)
        targets = pairs.sum(1) % p
        return Dataset(
            name="modular-addition",
            inputs=inputs[:count],
            targets=targets[:count],
            test_inputs=inputs[count:],
            test_targets=targets[count:],
            classes=p,
            preprocessing=f"pairs of numbers below {p}{'' if self.mirrored else ', the first not the larger,'} as two "
            f"one-hot vectors; {count:,} of them, drawn from seed {self.seed}, train, the others test",
            source="computed: Power et al., arXiv 2201.02177 (2022)",
            licence="none needed: computed",
        ).subset(self.train, self.test)

    def _pairs(self) -> int:
        return self.modulus**2 if self.mirrored else self.modulus * (self.modulus + 1) // 2

    def _training(self) -> int:
        return round(self.share * self._pairs())
