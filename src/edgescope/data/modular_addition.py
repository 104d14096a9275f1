"""Addition of two numbers modulo a third, which networks first memorise and much later understand."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from edgescope.data.dataset import Dataset
from edgescope.data.source import DataSource
from edgescope.errors import InputError


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

    def load(self) -> Dataset:
        p = self.modulus
        if p < 2:
            raise InputError(f"modulus={p} of modular-addition", expected="a whole number of at least 2")
        total = p * p if self.mirrored else p * (p + 1) // 2
        count = round(self.share * total) if 0 < self.share < 1 else 0  # a share that is NaN, too
        if not 1 <= count < total:
            raise InputError(
                f"share={self.share} of the {total:,} pairs of modular-addition",
                expected="a share that leaves pairs to train on and pairs to test",
            )
        pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
        pairs = pairs if self.mirrored else pairs[pairs[:, 0] <= pairs[:, 1]]
        pairs = pairs[torch.randperm(total, generator=torch.Generator().manual_seed(self.seed))]
        inputs = torch.nn.functional.one_hot(pairs, p).flatten(1).float()
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
