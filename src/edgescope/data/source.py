"""What a data set by name is: a configuration that loads it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from edgescope.data.dataset import Dataset


class DataSource(ABC):
    """A data set's options. A new one is a file with a dataclass that derives from this, and one registered line."""

    @abstractmethod
    def load(self) -> Dataset:
        """Read, preprocess and check the data; raises :class:`InputError` in one line for what cannot be read."""
