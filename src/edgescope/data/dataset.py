"""A data set: training and test tensors, checked once, with what was done to them and where they come from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from edgescope.errors import InputError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs and targets of a classification, regression or language-modelling task, training and test part.

    ``inputs`` are float32, ``(N, D)`` or ``(N, C, H, W)``, with one class index a sample as targets, or real targets,
    float32 ``(N, K)``; or token indices, int64 ``(N, T)``, with ``(N, T)`` next tokens as targets. ``classes`` is the
    number of classes, of tokens, or of real targets K; ``vocabulary`` says what each token stands for. Construction
    raises :class:`InputError` for parts that are empty, not finite, out of range or of shapes that do not match.
    """

    name: str
    inputs: Float[Tensor, "N ..."] | Int[Tensor, "N T"]
    targets: Int[Tensor, "N ..."] | Float[Tensor, "N K"]
    test_inputs: Float[Tensor, "M ..."] | Int[Tensor, "M T"]
    test_targets: Int[Tensor, "M ..."] | Float[Tensor, "M K"]
    classes: int
    preprocessing: str
    source: str
    licence: str
    vocabulary: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.classes < 2 and not self.real:
            raise InputError(f"data set '{self.name}' has {self.classes} classes", expected="at least 2")
        if self.vocabulary is not None and len(self.vocabulary) != self.classes:
            raise InputError(
                f"data set '{self.name}' has a vocabulary of {len(self.vocabulary)} tokens",
                expected=f"{self.classes}, its number of classes",
            )
        for stated in ("preprocessing", "source", "licence"):
            if not getattr(self, stated).strip():
                raise InputError(f"data set '{self.name}' does not state its {stated}", expected="a sentence")
        self._check_part("training", self.inputs, self.targets)
        self._check_part("test", self.test_inputs, self.test_targets)
        if self.test_inputs.shape[1:] != self.inputs.shape[1:] or self.test_inputs.dtype != self.inputs.dtype:
            raise InputError(
                f"test inputs of data set '{self.name}' have shape {tuple(self.test_inputs.shape)} and type "
                f"{self.test_inputs.dtype}",
                expected=f"(samples, {', '.join(map(str, self.input_shape))}) and {self.inputs.dtype}, as in training",
            )

    @property
    def real(self) -> bool:
        """Whether the targets are real numbers, K to a sample."""
        return self.targets.is_floating_point() and self.targets.ndim == 2

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, which is what a model is built for."""
        return tuple(self.inputs.shape[1:])

    def subset(self, train: int | None = None, test: int | None = None) -> Dataset:
        """The first samples, ``train`` and ``test`` of them (None: all), each class in its proportion.

        The first ones of each class are taken and stay in their order, so the choice depends on nothing else; windows
        of tokens and real targets have no class, so there the first ones are taken. Raises :class:`InputError` for more
        than there are.
        """
        if train is None and test is None:
            return self
        kept = self._select("training", self.targets, train)
        kept_test = self._select("test", self.test_targets, test)
        how = "samples" if self.real else "windows" if self.targets.ndim > 1 else "ones of each class"
        return dataclasses.replace(
            self,
            inputs=self.inputs[kept],
            targets=self.targets[kept],
            test_inputs=self.test_inputs[kept_test],
            test_targets=self.test_targets[kept_test],
            preprocessing=f"{self.preprocessing}; of these the first {how}, {len(kept):,} for training and "
            f"{len(kept_test):,} for testing",
        )

    def describe(self) -> str:
        """What this data set is, in four lines: sizes, preprocessing, source and licence."""
        shape = " x ".join(map(str, self.input_shape))
        kind = "real targets" if self.real else "tokens" if self.vocabulary else "classes"
        return (
            f"{self.name}: {len(self.inputs):,} training and {len(self.test_inputs):,} test samples of shape {shape}, "
            f"{self.classes} {kind}\n"
            f"preprocessing: {self.preprocessing}\nsource: {self.source}\nlicence: {self.licence}"
        )

    def _select(self, part: str, targets: Tensor, count: int | None) -> Int[Tensor, " count"]:
        if count is None:
            count = len(targets)
        if not 1 <= count <= len(targets):
            raise InputError(
                f"{count:,} {part} samples requested from data set '{self.name}'", expected=f"1 to {len(targets):,}"
            )
        return torch.arange(count, device="cpu") if targets.ndim > 1 else stratified(targets, count)

    def _check_part(self, part: str, inputs: Tensor, targets: Tensor) -> None:
        where = f"of data set '{self.name}'"
        tokens = inputs.dtype == torch.int64
        kind = torch.float32 if self.real and not tokens else torch.int64
        if inputs.dtype not in (torch.float32, torch.int64) or targets.dtype != kind:
            raise InputError(
                f"{part} inputs {where} are {inputs.dtype}, targets {targets.dtype}",
                expected="torch.float32 (or torch.int64 tokens) and torch.int64, or torch.float32 (N, K) in both parts",
            )
        if inputs.ndim not in ((2,) if tokens else (2, 4)):
            raise InputError(
                f"{part} inputs {where} have shape {tuple(inputs.shape)}", expected="(N, D), (N, C, H, W) or (N, T)"
            )
        if inputs.numel() == 0:
            raise InputError(f"the {part} part {where} is empty", expected="at least one sample")
        wanted = tuple(inputs.shape) if tokens else (len(inputs), self.classes) if self.real else (len(inputs),)
        if tuple(targets.shape) != wanted:
            raise InputError(
                f"{part} inputs {where} have shape {tuple(inputs.shape)}, targets {tuple(targets.shape)}",
                expected=f"targets of shape {wanted}",
            )
        for what, values in (("inputs", inputs), ("targets", targets)):
            if not bool(torch.isfinite(values).all()):
                bad = int((~torch.isfinite(values)).sum())
                raise InputError(f"{part} {what} {where} contain {bad:,} values that are NaN or infinite")
        for what, indices in (("inputs", inputs), ("targets", targets)):
            if indices.is_floating_point():
                continue
            low, high = int(indices.min()), int(indices.max())
            if low < 0 or high >= self.classes:
                raise InputError(
                    f"{part} {what} {where} contain the index {low if low < 0 else high}",
                    expected=f"0 to {self.classes - 1}",
                )


def stratified(targets: Int[Tensor, " N"], count: int) -> Int[Tensor, " count"]:
    """Indices, ascending, of the first samples of each class, ``count`` in all, classes in their proportion.

    Shares that are not whole are rounded by largest remainder, the lower class first. ``count`` is at most N.
    """
    sizes = torch.bincount(targets)
    shares = sizes * count
    quota = shares // len(targets)
    remainder = shares % len(targets)
    short = count - int(quota.sum())
    quota[torch.argsort(remainder, descending=True, stable=True)[:short]] += 1
    # rank: how many samples of the same class come before.
    order = torch.argsort(targets, stable=True)
    rank = torch.empty_like(targets)
    rank[order] = torch.arange(len(targets), device="cpu") - (sizes.cumsum(0) - sizes)[targets[order]]
    return torch.nonzero(rank < quota[targets]).flatten()
