"""Which modules of a model are in training mode while it is measured, and which in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import torch.distributed as distributed
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd

from edgescope.errors import InputError, NotDeterministicError

RUNNING: Final = (
    "is measured with its running statistics (mode='eval'), while training uses those of the batch: a different"
    " function, whose curvature can differ a hundredfold"
)
"""What follows the name of a normalisation layer in a notice."""

THAWED: Final = (
    "trains by now, and was kept in evaluation when the objective was made: it is measured with its running"
    " statistics, as before"
)
"""What follows the name of a normalisation layer in a notice."""

Mode = Literal["auto", "eval", "train", "batch-statistics"]
UsedMode = Literal["eval", "train", "batch-statistics"]


class Flags:
    """The training flags that the parts of a model have while it is measured.

    ``mode`` is the one used: "auto" becomes "batch-statistics" where a normalisation layer uses the statistics of its
    batch (or of the instance) in training and running ones in evaluation, and "eval" elsewhere. With
    "batch-statistics" these layers are in training, and everything else in evaluation; a layer that the caller keeps in
    evaluation while the model trains (frozen batch normalisation) stays there.
    """

    def __init__(self, model: nn.Module, mode: Mode) -> None:
        self.automatic = mode == "auto"
        self._kept: set[nn.Module] = set()
        self.mode: UsedMode = "batch-statistics" if mode == "auto" else mode
        self.follow(model)
        if self.automatic and not self.in_training(model.modules()):
            self.mode = "eval"
        if self.mode == "train":
            refuse_dropout(model)
        if self.mode != "eval":
            _refuse_synchronised(model)

    def follow(self, model: nn.Module) -> bool:
        """See which layers the caller keeps in evaluation now; whether that has changed. Nothing in eval mode."""
        if self.mode != "batch-statistics" or not model.training:
            return False
        kept = {part for part in model.modules() if _has_two_statistics(part) and not part.training}
        changed = kept != self._kept
        self._kept = kept
        return changed

    def thawed(self, model: nn.Module) -> list[str]:
        """The layers that the caller kept in evaluation when the mode became "eval" by itself, and trains by now."""
        if not (self.automatic and self.mode == "eval" and self._kept and model.training):
            return []
        return [name for name, part in model.named_modules() if part in self._kept and part.training]

    def left_in_evaluation(self, model: nn.Module) -> list[str]:
        """Layers measured with the statistics of their batch that are in evaluation now, as the whole model is."""
        if self.mode != "batch-statistics" or model.training:
            return []
        found = set(self.in_training(model.modules()))
        return [name for name, part in model.named_modules() if part in found and not part.training]

    def in_training(self, parts: Iterable[nn.Module]) -> list[nn.Module]:
        """The parts that compute as in training while they are measured."""
        if self.mode == "train":
            return list(parts)
        if self.mode == "eval":
            return []
        return [part for part in parts if _has_two_statistics(part) and part not in self._kept]

    def set(self, parts: list[nn.Module]) -> None:
        """Set the flags one by one, because ``train()`` may be overridden with side effects (merging adapters)."""
        for part in parts:
            part.training = False
        for part in self.in_training(parts):
            part.training = True

    def couples_samples(self, model: nn.Module) -> bool:
        """Whether a batch's loss depends, through normalisation, on which samples stand together in the batch."""
        training = set(self.in_training(model.modules()))
        return any(
            isinstance(part, _BatchNorm) and (part in training or part.running_mean is None) for part in model.modules()
        )


class TrainingFlags(Flags):
    """The flags with which a model trains, for a copy of it, random masks and all.

    They are those that the model has where it is in training now; else every part is, but for the layers that were
    seen to be kept in evaluation.
    """

    def __init__(self, model: nn.Module, flags: Flags) -> None:
        self.mode, self.automatic, self._kept = "train", False, set(flags._kept)
        self._training = [part.training if model.training else part not in self._kept for part in model.modules()]

    def set(self, parts: list[nn.Module]) -> None:
        for part, training in zip(parts, self._training, strict=True):
            part.training = training


def uses_batch_statistics(model: nn.Module) -> bool:
    """Whether samples of a batch are coupled by batch normalisation in training mode."""
    return any(isinstance(part, _BatchNorm) for part in model.modules())


def running_statistics(model: nn.Module) -> list[str]:
    """The names of the layers that use other statistics in training than in evaluation, and are in training."""
    return [
        name or type(part).__name__
        for name, part in model.named_modules()
        if _has_two_statistics(part) and (part.training or not model.training)
    ]


def active_dropout(model: nn.Module) -> list[tuple[str, float]]:
    """Name and rate of every part that draws random masks in training."""
    found = []
    for name, part in model.named_modules():
        rate = getattr(part, "p" if isinstance(part, _DropoutNd) else "dropout", 0.0)
        if isinstance(part, _DropoutNd | nn.MultiheadAttention | nn.RNNBase) and rate > 0:
            found.append((name or type(part).__name__, float(rate)))
    return found


def switch_masks_off(model: nn.Module) -> None:
    """Put the parts that draw random masks into evaluation."""
    for part in model.modules():
        if isinstance(part, _DropoutNd | nn.MultiheadAttention | nn.RNNBase):
            part.training = False


def refuse_dropout(model: nn.Module) -> None:
    """Training mode differentiates through batch statistics, but a random mask is no function of the parameters."""
    for name, rate in active_dropout(model):
        raise NotDeterministicError(
            f"dropout in '{name}' (p={rate:g}) is active in mode='train'",
            hint="mode='auto', which switches dropout off and uses batch statistics",
        )


def _has_two_statistics(part: nn.Module) -> bool:
    """Whether the part normalises by its batch (or instance) in training and by running statistics in evaluation."""
    return isinstance(part, _NormBase) and part.running_mean is not None


def _refuse_synchronised(model: nn.Module) -> None:
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return
    for name, part in model.named_modules():
        if isinstance(part, nn.SyncBatchNorm):
            raise InputError(
                f"SyncBatchNorm '{name}' exchanges statistics between processes, which has no second derivative",
                expected="statistics of one process, or running ones",
                hint="mode='eval'",
            )
