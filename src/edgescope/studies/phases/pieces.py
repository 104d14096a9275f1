"""A task of this study: simulations in pieces, each a step of the record; a stopped task goes on at the next piece."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgescope.measures import Reading
from edgescope.store import Record


@dataclass(frozen=True)
class PiecesTask(ABC):
    """``pieces()`` are what to simulate, ``simulate`` does one of them; each is recorded as soon as it has ended."""

    name: str
    cost: float
    seed: int

    @abstractmethod
    def pieces(self) -> Sequence[Any]:
        """What to simulate, in order."""

    @abstractmethod
    def simulate(self, piece: Any, seed: int) -> list[Reading]:
        """One piece; ``seed`` differs between pieces."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the report says of the task: data, model, lr."""

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None:
        resumed = (folder / "record.sqlite").exists()
        config = self.describe() | {"seed": self.seed}
        with Record.open(folder) if resumed else Record.create(folder, config=config) as record:
            done = -1 if record.last_step is None else record.last_step
            began, before = time.perf_counter(), float(record.info.get("seconds", 0.0))
            pieces = self.pieces()
            for number in range(done + 1, len(pieces)):
                record.append(number, self.simulate(pieces[number], 1000 * self.seed + number))
                record.set_info("seconds", before + time.perf_counter() - began)
                progress((number + 1) / len(pieces), f"{self.name}, {number + 1} of {len(pieces)}")
            record.set_info("steps", len(pieces))
            record.set_status("finished")
