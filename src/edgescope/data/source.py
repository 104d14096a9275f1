"""What a data set by name is: a configuration that loads it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from edgescope.data.dataset import Dataset
from edgescope.errors import InputError


@dataclass(frozen=True)
class DataShape:
    """Numbers of samples, the shape of one input, and classes: all that a model and the cost of a run depend on."""

    train: int
    test: int
    input_shape: tuple[int, ...]
    classes: int


class DataSource(ABC):
    """A data set's options. A new one is a file with a dataclass that derives from this, and one registered line."""

    @abstractmethod
    def load(self) -> Dataset:
        """Read, preprocess and check the data; raises :class:`InputError` in one line for what cannot be read."""

    def published_shape(self) -> DataShape | None:
        """The shape of data of class indices that ``load`` would download, known without doing so; None for others.

        A plan of a study (``edgescope run --dry-run``) takes random data of this shape, and loads other data.
        """
        return None


def existing(path: str, expected: str) -> Path:
    """The file or folder that ``path`` names, ~ expanded; :class:`InputError` where there is none."""
    try:
        found = Path(path).expanduser()
        found.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: the home of a user that there is not
        why = error.strerror if isinstance(error, OSError) else "there is no such user"
        raise InputError(f"'{path}' cannot be read ({why})", expected=expected) from error
    return found
