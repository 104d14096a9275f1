"""A task of this study: simulations in pieces, each a step of the record; a stopped task goes on at the next piece."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from edgescope.experiments.task_record import open_record
from edgescope.measures import Reading
from edgescope.sweep import Tagged

P = TypeVar("P")


@dataclass(frozen=True)
class PiecesTask(Tagged, ABC, Generic[P]):
    """``pieces`` are what to simulate, in order; ``simulate`` does one of them, which is recorded when it has ended."""

    name: str
    cost: float
    seed: int
    pieces: tuple[P, ...]

    @abstractmethod
    def simulate(self, piece: P, seed: int) -> list[Reading]:
        """One piece; ``seed`` differs between pieces."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the report says of the task: data, model, lr."""

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None:
        config = self.describe() | {"seed": self.seed}
        with open_record(folder, config, self.tags) as record:
            done = -1 if record.last_step is None else record.last_step
            began, before = time.perf_counter(), float(record.info.get("seconds", 0.0))
            for number in range(done + 1, len(self.pieces)):
                record.append(number, self.simulate(self.pieces[number], 1000 * self.seed + number))
                record.set_info("seconds", before + time.perf_counter() - began)
                progress((number + 1) / len(self.pieces), f"{self.name}, {number + 1} of {len(self.pieces)}")
            record.set_info("steps", len(self.pieces))
            record.set_status("finished")
