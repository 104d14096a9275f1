"""What measures on mini-batches have in common: their size and number, and what follows from these."""

from __future__ import annotations

from edgescope.errors import NotKnownError
from edgescope.measures.base import Measure, Moment
from edgescope.measures.problem_size import ProblemSize
from edgescope.options import check_fields, integer, optional


class OnMiniBatches(Measure):
    """A measure of ``count`` mini-batches of ``batch`` samples; None: the size that training takes."""

    batch: int | None
    count: int

    def __post_init__(self) -> None:
        check_fields(self, f"measure '{self.name}'", batch=optional(integer(1)), count=integer(2))

    def check_problem(self, size: ProblemSize) -> None:
        size.fits_samples(f"measure '{self.name}'", "batch", self.batch)

    def passes(self, size: ProblemSize) -> int:
        """About as many passes over all data as the mini-batches of a reading are; each is one where none is known."""
        share = 1.0 if self.batch is None or size.samples is None else self.batch / size.samples
        return max(1, round(share * self.count))

    def samples_of_batch(self, moment: Moment) -> int:
        """The size of the mini-batches of a reading. Raises :class:`NotKnownError` where nobody has said it."""
        size = self.batch or moment.batch_samples()
        if size is None:
            raise NotKnownError(
                "the size of mini-batches is not known", hint=f"{self.name}:batch=32, or monitor.step(batch=batch)"
            )
        return min(size, moment.objective.samples)
