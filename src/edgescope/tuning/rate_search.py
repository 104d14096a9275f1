"""Which learning rates are tried: coarsely downward from a bound, then finely around the best, then on all seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

COARSE, FINE = 4.0, 2.0
"""Ratio of neighbouring learning rates at first, and around the best."""

BELOW = 5
"""Learning rates tried at first, the bound among them."""

FURTHER = 5
"""How often the search goes on beyond the highest or lowest of them, while training gets better there."""

USUAL_TRIALS = 15
"""Trials of a search on two seeds that stays near its bound, to plan by."""

ROUNDING = 2.0**-23
"""Relative rounding error of a loss in single precision."""

NEARLY = 0.9
"""A learning rate that lowers the loss by this share of what the best one does is nearly as good."""


@dataclass(frozen=True)
class RateTrial:
    """One short training run. ``loss`` is the mean over its last steps, infinite where it has diverged; ``start`` the
    loss of its first batch before training. ``warm_up`` says whether the rate rose linearly at the start."""

    rate: float
    seed: int
    loss: float
    start: float
    steps: int
    warm_up: bool = True

    @property
    def diverged(self) -> bool:
        """Whether the loss became infinite, NaN or a hundred times the first one."""
        return math.isinf(self.loss)

    @property
    def lowered(self) -> bool:
        """Whether the loss at the end is below that at the start."""
        return self.loss < self.start


@dataclass
class RateSearch:
    """Tries learning rates by ``run(rate, seed)``, each at most once on a seed; ``trials`` are those so far."""

    run: Callable[[float, int], RateTrial]
    trials: dict[tuple[float, int], RateTrial] = field(default_factory=dict)

    def best(self, top: float, seeds: int) -> float:
        """The learning rate with the lowest mean loss over all seeds, searched for from ``top`` downward.

        The lowest one that was tried where all diverge.
        """
        rates = [top / COARSE**k for k in range(BELOW)]
        best = self._best_of(rates, [0])
        for _ in range(FURTHER):
            if best == max(rates):
                rates.append(best * COARSE)
            elif best == min(rates):
                rates.append(best / COARSE)
            else:
                break
            best = self._best_of(rates, [0])
        near = [best / FINE, best, best * FINE]
        if seeds == 1:
            return self._best_of(near, [0])
        best = self._best_of([self._best_of(near, [0])], [0])
        every = list(range(seeds))
        for _ in range(FURTHER):
            near = [best / FINE, best, best * FINE]
            found = self._best_of(near, every)
            if found == best:
                break
            best = found
        return best

    def _best_of(self, rates: Iterable[float], seeds: list[int]) -> float:
        """That of the lowest mean loss; the lowest rate where several are equal, as those that diverge are."""
        return min(sorted(rates), key=lambda rate: self.mean(rate, seeds))

    def mean(self, rate: float, seeds: Iterable[int]) -> float:
        """The mean loss over the seeds; trials that have not been run yet are.

        Losses below the rounding error of the first one are not told apart, so that the lowest of such rates is chosen:
        a problem that is solved to the last digit hides that a rate is unstable.
        """
        trials = [self._trial(rate, seed) for seed in seeds]
        return statistics.fmean(max(trial.loss, ROUNDING * abs(trial.start)) for trial in trials)

    def nearly_as_good(self, best: float, seeds: int) -> list[float]:
        """Those tried on all seeds whose loss falls nearly as far as that of the best."""
        own = [self.trials[best, seed] for seed in range(seeds)]
        start, lowest = statistics.fmean(t.start for t in own), statistics.fmean(t.loss for t in own)
        complete = {rate for rate, _ in self.trials if all((rate, seed) in self.trials for seed in range(seeds))}
        limit = start - NEARLY * (start - lowest)
        return sorted({best} | {rate for rate in complete if self.mean(rate, range(seeds)) <= limit})

    def _trial(self, rate: float, seed: int) -> RateTrial:
        key = rate, seed
        if key not in self.trials:
            self.trials[key] = self.run(rate, seed)
        return self.trials[key]
