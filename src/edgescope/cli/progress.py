"""Progress on stderr: a bar with the time remaining, or a plain line every few percent where nobody watches."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Column

from edgescope.cli.terminal import Terminal
from edgescope.printable import printable
from edgescope.progress import time_left
from edgescope.report.numbers import duration

LINE_EVERY: Final = 0.05
LINE_SECONDS: Final = (2.0, 30.0)
"""No two lines closer than this, and one at least so often."""


class ProgressLine:
    """Shows a fraction done (0 to 1), a few words and the seconds left; a context manager.

    Where the seconds left are not given they follow from the speed since the first call (a resumed run starts late),
    once enough of the work is done.
    """

    def __init__(self, what: str, console: Console | None = None) -> None:
        self._console = console or Terminal(stderr=True)
        self._bar: Progress | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TaskProgressColumn(),
                TextColumn("{task.fields[left]}"),
                TextColumn("{task.fields[words]}", table_column=Column(ratio=1, no_wrap=True), markup=False),
                console=self._console,
                transient=True,
                expand=True,
            )
            self._task = self._bar.add_task(what, total=1.0, left="", words="")
        self._next_fraction, self._last = 0.0, time.monotonic()
        self._began: tuple[float, float] | None = None

    def __call__(self, fraction: float, words: str = "", left: float | None = None, /) -> None:
        words, now = printable(words), time.monotonic()
        since, before = self._began = self._began or (now, fraction)
        if left is None:
            left = time_left(fraction, before, now - since)
        remaining = "" if left is None else f"{duration(left)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=fraction, left=remaining, words=words)
            return
        least, most = LINE_SECONDS
        if now - self._last < (least if fraction >= self._next_fraction else most):
            return
        self._next_fraction = (math.floor(fraction / LINE_EVERY + 1e-9) + 1) * LINE_EVERY - 1e-9
        self._last = now
        said = "; ".join(part for part in (remaining, words) if part)
        self._console.print(f"{fraction:4.0%}  {said}", markup=False, soft_wrap=True)

    def __enter__(self) -> ProgressLine:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
