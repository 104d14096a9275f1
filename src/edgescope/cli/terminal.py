"""Tables and progress on the terminal, in which names from elsewhere can do nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from edgescope.printable import printable


class Terminal(Console):
    """A console that shows control characters of texts in place of carrying them out; its own colours stay."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, "emoji": False} | options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text, keep="\n"), segment.style)
