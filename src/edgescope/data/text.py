"""Characters of a text file, for language models."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from edgescope.bounded import read_bounded
from edgescope.data.dataset import Dataset
from edgescope.data.source import DataSource, existing
from edgescope.errors import InputError
from edgescope.memory import require
from edgescope.options import check_fields, integer, optional, text

_BYTES = 48  # held for each byte of a file while it is read, at most
_TRAIN_SHARE = 0.9


@dataclass(frozen=True)
class Text(DataSource):
    """Characters of the UTF-8 file ``path`` in windows of ``length``, each with the next character as its target.

    The first 90 % of the characters train, the rest test. Windows follow one another without overlap; ``train`` and
    ``test`` take the first so many of them. The vocabulary is every character of the file in the order of Unicode.
    """

    path: str = ""
    length: int = 64
    train: int | None = None
    test: int | None = None

    def __post_init__(self) -> None:
        if self.path == "":
            raise InputError(f"{self.owner} without a file", expected="text:PATH")
        count = optional(integer(1))
        check_fields(self, self.owner, path=text(empty=False), length=integer(1), train=count, test=count)

    @property
    def owner(self) -> str:
        """What the options belong to, for error messages."""
        return f"data set '{type(self).__name__.lower()}'"

    def load(self) -> Dataset:
        path = existing(self.path, "a text file")
        if not path.is_file():
            raise InputError(f"'{self.path}' is not a file", expected="a text file")
        size = path.stat().st_size
        require(_BYTES * size, f"{self.owner} of '{self.path}'", hint="a shorter file")
        data = read_bounded(path, size)  # no more than that, should it grow
        try:
            characters = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"'{self.path}' is not text in UTF-8 (byte {error.start:,})") from error
        points, codes = np.unique(np.frombuffer(characters.encode("utf-32-le"), np.uint32), return_inverse=True)
        cut = int(_TRAIN_SHARE * len(codes))
        inputs, targets = self._windows(codes[:cut], len(codes))
        test_inputs, test_targets = self._windows(codes[cut:], len(codes))
        return Dataset(
            name=f"text:{path.name}",
            inputs=inputs,
            targets=targets,
            test_inputs=test_inputs,
            test_targets=test_targets,
            classes=len(points),
            vocabulary=tuple(map(chr, points)),
            preprocessing=f"characters as indices; the first 90 % train, the rest test; windows of {self.length} "
            "without overlap, targets one character later",
            source=f"file {path.name}, {len(data):,} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}",
            licence="that of the file",
        ).subset(self.train, self.test)

    def _windows(self, codes: Int[np.ndarray, " n"], total: int) -> tuple[Int[Tensor, "N T"], Int[Tensor, "N T"]]:
        count = (len(codes) - 1) // self.length
        if count < 1:
            raise InputError(
                f"'{self.path}' has {total:,} characters for windows of {self.length}",
                expected=f"about {10 * (self.length + 1):,}, so that one window is left for testing",
                hint="a smaller length=",
            )
        tokens = torch.from_numpy(codes.astype(np.int64))
        end = count * self.length
        return tokens[:end].reshape(count, self.length), tokens[1 : end + 1].reshape(count, self.length)
