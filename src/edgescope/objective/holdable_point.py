"""Where an operator of an objective is evaluated: looked up for every block of products, or once for a whole solve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgescope.objective.problem import Point


class HoldablePoint:
    """The point that ``find`` returns, such as that of the live parameters, which takes a comparison with the last one.

    Only inside :meth:`held` is a reference to the point kept, since its graphs may take much memory.
    """

    def __init__(self, find: Callable[[], Point]) -> None:
        self._find = find
        self._held: Point | None = None

    def point(self) -> Point:
        """The point now; inside :meth:`held` the one that was found first."""
        return self._find() if self._held is None else self._held

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, the point stays the same, whatever happens to the parameters."""
        before = self._held
        self._held = self.point()
        try:
            yield
        finally:
            self._held = before
