"""Adam and AdamW with quantized state, as the packages bitsandbytes and torchao step them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgescope.errors import NotKnownError
from edgescope.optim.adam import AdamRule
from edgescope.optim.held_state import Group
from edgescope.optim.unknown_options import check_present

BLOCKS = (256, 2048, 4096)
"""Numbers of entries that bitsandbytes has quantized with one scale, in its versions."""


class BitsAndBytesAdamRule(AdamRule):
    """Adam's rule on ``state1`` and ``state2``, dequantized: a table of 256 values times the scale of each block.

    Weight decay is decoupled in Adam, too. What rounding to 8 bits makes of the state after a step is not in the rule.
    """

    kinds = ()
    names = tuple(
        f"bitsandbytes.{paged}Adam{w}{bits}"
        for paged in ("", "Paged")
        for w in ("", "W")
        for bits in ("", "8bit", "32bit")
    )
    options = frozenset(["lr", "betas", "eps", "weight_decay", "alpha", "t_alpha", "t_beta3"])

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
        check_present(optimizer, ("lr", "betas", "eps", "weight_decay"))
        super().__init__(optimizer, parameters)
        arguments = getattr(optimizer, "args", None)
        for option in ("max_unorm", "skip_zeros"):
            if getattr(arguments, option, None):
                raise NotKnownError(f"the update rule of {self.name} with {option} is not known")

    def read(self, tensor: Tensor, name: str) -> Tensor | None:
        number = {"exp_avg": 1, "exp_avg_sq": 2}[name]
        kept = self._kept(tensor)
        value: Tensor | None = kept.get(f"state{number}")
        if value is None or value.is_floating_point():
            return value
        if f"qmap{number}" not in kept or f"absmax{number}" not in kept:
            raise NotKnownError(
                f"the state of {self.name} is quantized in an unknown way", expected="blocks with a scale of their own"
            )
        table, scales = kept[f"qmap{number}"], kept[f"absmax{number}"]
        block = next((size for size in BLOCKS if -(-value.numel() // size) == scales.numel()), None)
        if block is None:
            raise NotKnownError(f"the state of {self.name} is quantized in {scales.numel()} blocks of an unknown size")
        spread = scales.repeat_interleave(block)[: value.numel()]
        return (table[value.flatten().long()] * spread).view(tensor.shape)

    def coupled_decay(self, group: Group) -> float:
        return 0.0

    def decoupled_decay(self, group: Group) -> float:
        return float(group["weight_decay"])


class TorchAOAdamRule(AdamRule):
    """Adam's rule on the state of torchao's low-bit optimizers, dequantized by its own tensors."""

    kinds = ()
    names = tuple(
        f"torchao.{kind}"
        for kind in ("Adam8bit", "Adam4bit", "AdamFp8", "AdamW8bit", "AdamW4bit", "AdamWFp8", "_AdamW")
    )
    options = frozenset(["lr", "betas", "eps", "weight_decay", "amsgrad"])

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
        check_present(optimizer, ("lr", "betas", "eps", "weight_decay", "amsgrad"))
        super().__init__(optimizer, parameters)
        if not isinstance(getattr(optimizer, "is_adamw", None), bool):
            raise NotKnownError(f"whether the weight decay of {self.name} is decoupled is not known")

    def read(self, tensor: Tensor, name: str) -> Tensor | None:
        value: Any = self._kept(tensor).get(name)
        found: Tensor | None = value.dequantize() if hasattr(value, "codes") else value
        return found

    def coupled_decay(self, group: Group) -> float:
        return 0.0 if self.optimizer.is_adamw else float(group["weight_decay"])  # type: ignore[attr-defined]

    def decoupled_decay(self, group: Group) -> float:
        return float(group["weight_decay"]) if self.optimizer.is_adamw else 0.0  # type: ignore[attr-defined]
