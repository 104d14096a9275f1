"""What a command answered, for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """What a command answered: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    def refusal(self) -> str:
        """The one line of a refused command."""
        assert self.code == 2, self
        assert self.err.startswith("edgescope: ")
        assert self.err.count("\n") == 1
        assert self.err.endswith("\n")
        return self.err


Run = Callable[..., Said]
