"""The progress of a whole sweep, from the progress files of its tasks."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgescope.progress import Progress, time_left
from edgescope.sweep.task import Outcome, Task, read_json


class SweepProgress:
    """Reports to ``progress`` the fraction of the total cost that is done, which never decreases, and the seconds left.

    ``running`` are the names of running tasks; ``waiting_for`` is reported while nothing can run.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        folders: dict[str, Path],
        outcomes: dict[str, Outcome],
        progress: Progress | None,
    ) -> None:
        self.running: list[str] = []
        self.waiting_for = ""
        self._folders, self._outcomes, self._progress = folders, outcomes, progress
        self._shares = {task.name: task.cost / sum(other.cost for other in tasks) for task in tasks}
        self._fractions = {name: float(name in outcomes) for name in folders}
        self._texts = dict.fromkeys(folders, "")
        self._look(folders)
        self._started, self._before = time.monotonic(), self._done()

    def end(self, outcome: Outcome) -> None:
        """Note that a running task has ended."""
        self._outcomes[outcome.name] = outcome
        self._fractions[outcome.name] = 1.0
        self.running.remove(outcome.name)
        self.tell()

    def tell(self) -> None:
        """Read the progress of the running tasks and report that of the sweep."""
        if self._progress is None:
            return
        self._look(self.running)
        done, elapsed = self._done(), time.monotonic() - self._started
        left = time_left(done, self._before, elapsed)  # what an earlier sweep did says nothing of the speed of this one
        words = [f"{len(self._outcomes)} of {len(self._folders)} runs ended"]
        words += [f"waiting for {self.waiting_for}"] if self.waiting_for else []
        words += [f"{name} {self._texts[name]}".strip() for name in self.running]
        self._progress(done, "; ".join(words), left)

    def _look(self, names: Iterable[str]) -> None:
        for name in names:
            seen = read_json(self._folders[name] / "progress.json")
            # A resumed run starts again from its last checkpoint, a little before where it was stopped.
            fraction, text = seen.get("fraction"), seen.get("text")
            done = min(float(fraction), 1.0) if isinstance(fraction, int | float) else 0.0
            self._fractions[name] = max(self._fractions[name], done)
            self._texts[name] = text if isinstance(text, str) else ""

    def _done(self) -> float:
        if all(fraction == 1 for fraction in self._fractions.values()):
            return 1.0  # and not a rounding away from it
        return min(1.0, math.fsum(share * self._fractions[name] for name, share in self._shares.items()))
