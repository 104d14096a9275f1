"""The learning rate finder: critical rates of single batches bound it, and short training runs choose it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

import torch
from torch import nn

from edgescope.cost import Cost
from edgescope.errors import InputError, one_of
from edgescope.objective import Objective
from edgescope.objective.batches import Batch, random_numbers_kept
from edgescope.objective.checks import as_loss, refuse_options
from edgescope.objective.minibatches import on_batch
from edgescope.options import checked, integer, optional, real
from edgescope.progress import Progress
from edgescope.tuning.batch_stream import BatchStream
from edgescope.tuning.critical_percentiles import CriticalRates
from edgescope.tuning.critical_rate import BatchRate, batch_critical_rate
from edgescope.tuning.rate_search import NEARLY, USUAL_TRIALS, RateSearch, RateTrial
from edgescope.tuning.suggestion import LearningRateSuggestion
from edgescope.tuning.training_copy import LossFunction, OptimizerSource, TrainingCopy

Schedule = Literal["constant", "cosine", "linear"]

GENTLE: Final = 0.1
"""Times the tenth percentile of the critical rates at the start, the rate of the warm-up before the second look."""

LAST: Final = 5
"""One in so many of a trial's steps, the last ones, are those whose mean loss is compared."""

FEWEST: Final = {"batches": 3, "warm_up": 5, "steps": 10}
"""To which numbers are cut at most where there is little time."""

PER_BATCH: Final = 4
"""Gradients that the critical rate of a batch takes, losses included, to plan by."""

ModelSource = nn.Module | Callable[[int], nn.Module]


@checked(
    batch=optional(integer(1)),
    seeds=integer(1),
    batches=integer(2),
    warm_up=integer(1),
    steps=integer(5),
    clip=optional(real(above=0)),
    seconds=optional(real(above=0)),
)
def find_lr(
    model: ModelSource,
    loss_fn: Callable[..., Any],
    data: Any,
    *,
    optimizer: OptimizerSource = "sgd",
    schedule: Schedule = "constant",
    batch: int | None = None,
    clip: float | None = None,
    seeds: int = 2,
    batches: int = 10,
    warm_up: int = 30,
    steps: int = 100,
    seconds: float | None = 60.0,
    progress: Progress | None = None,
) -> LearningRateSuggestion:
    """The learning rate to train at, where training turns unstable, and whether it needs a warm-up; in about a minute.

    On ``batches`` batches for each of the ``seeds``, at the start and after ``warm_up`` steps, the critical rate is
    measured at which the optimizer's step on a batch no longer lowers the loss of that batch. From the median of these
    rates downward, short training runs of ``warm_up`` + ``steps`` steps are tried, coarsely, then around the best
    by factors of two, and there on all seeds. The rate with the lowest mean loss over the last fifth of its steps is
    suggested. One-step curvature bounds the learning rate and cannot choose it: half the critical rate at
    initialization, suggested alone, diverged in tests.

    Everything is done on copies: the model with its buffers and mode, a live optimizer, and all random generators are
    as before. Results depend on ``seeds`` alone, but for ``seconds``.

    Args:
        model: as it is where training starts; or a function that makes it from a seed, so that the interval includes
            initializations. A model is trained in the mode (training or evaluation) that it is in.
        loss_fn: ``loss_fn(model, batch)``, or a criterion of torch for batches ``(inputs, targets)``.
        data: a DataLoader, a list of batches, any re-iterable, or one batch.
        optimizer: by name with options (``"sgd:momentum=0.9"``); a live one of this model, whose state training goes on
            from and whose parameter groups keep the ratios of their rates; or a function that makes one of a list of
            parameters.
        schedule: of the trials after warm-up: "constant", or "cosine" or "linear" down to 0. Give the one that training
            uses: with decay to 0 higher rates are better.
        batch: cuts data that are one batch into mini-batches of this size.
        clip: norm to which gradients are clipped in the trials.
        seeds: orders of the data, and initializations where ``model`` makes them.
        batches: for each seed, at the start and after warm-up.
        warm_up: steps of linear warm-up.
        steps: of a trial, after the warm-up.
        seconds: time that all may take; above it, by the time of a first step, numbers of batches and steps are cut,
            which ``notes`` say. None: as long as it takes.
        progress: called with the share that is done, and words.

    Cost: about ``15 (warm_up + steps) + 8 seeds batches`` gradients of single batches. Raises :class:`InputError` for
    arguments that cannot be used, a model or optimizer that cannot be copied, and a loss that is not finite at the
    start.
    """
    one_of(schedule, get_args(Schedule), "schedule")
    loss_fn = as_loss(loss_fn)
    with random_numbers_kept(data), torch.inference_mode(False), torch.enable_grad():
        makes = callable(model) and not isinstance(model, nn.Module | type)
        refuse_options(model(0) if makes else model, loss_fn, mode="auto", dtype=None, count=None)
        sizes = _Sizes(seeds, batches, warm_up, steps)
        finder = _Finder(model, loss_fn, data, optimizer, schedule, batch, clip, sizes, progress)
        return finder.found(seconds)


@dataclass
class _Sizes:
    """How much is done, and what was cut for time."""

    seeds: int
    batches: int
    warm_up: int
    steps: int
    notes: list[str] = field(default_factory=list)

    @property
    def gradients(self) -> float:
        """About how many gradients of a batch all takes."""
        looking = self.seeds * (self.warm_up + 2 * PER_BATCH * self.batches)
        return looking + (USUAL_TRIALS + self.seeds) * (self.warm_up + self.steps)

    def cut_to(self, gradients: float) -> None:
        share = gradients / self.gradients
        if share >= 1:
            return
        before = self.warm_up, self.steps
        for name, least in FEWEST.items():
            full = getattr(self, name)
            setattr(self, name, min(full, max(least, round(share * full))))
        self.notes.append(
            f"for the time given, {self.batches} batches were looked at, and trials have {self.warm_up} + {self.steps}"
            f" steps in place of {before[0]} + {before[1]}"
        )


class _Finder:
    def __init__(
        self,
        model: ModelSource,
        loss_fn: LossFunction,
        data: Any,
        optimizer: OptimizerSource,
        schedule: str,
        batch: int | None,
        clip: float | None,
        sizes: _Sizes,
        progress: Progress | None,
    ) -> None:
        self.began = time.perf_counter()
        self.model, self.loss_fn, self.optimizer, self.clip = model, loss_fn, optimizer, clip
        self.schedule, self.sizes, self.progress = schedule, sizes, progress
        self.losses, self.gradients, self.done = 0, 0, 0.0
        first = self.copy(0)
        p = first.parameters[0]
        self.name = optimizer if isinstance(optimizer, str) else type(first.optimizer).__name__
        cast = p.dtype if p.dtype in (torch.float32, torch.float64) else None
        self.stream = BatchStream(data, batch, p.device, cast)
        self.mode: str | None = None
        if not first.model.training:
            sizes.notes.append("the model is in evaluation mode, and is trained so")

    def copy(self, seed: int) -> TrainingCopy:
        model = self.model if isinstance(self.model, nn.Module) else self._made(seed)
        return TrainingCopy(model, self.loss_fn, self.optimizer, self.clip)

    def _made(self, seed: int) -> nn.Module:
        assert not isinstance(self.model, nn.Module)
        torch.manual_seed(seed)
        made = self.model(seed)
        if not isinstance(made, nn.Module):
            raise InputError(
                f"the function for the model returned a {type(made).__name__}", expected="a torch.nn.Module"
            )
        return made

    def found(self, seconds: float | None) -> LearningRateSuggestion:
        sizes = self.sizes
        if seconds is not None:
            sizes.cut_to(seconds / self._step_seconds())
        at_start: list[BatchRate] = []
        after: list[BatchRate] = []
        for seed in range(sizes.seeds):
            training, stream = self.copy(seed), self.stream.batches(seed)
            objective = self._objective(training, next(stream), check=seed == 0)
            own = self._critical(objective, training, stream)
            at_start += own
            gentle = GENTLE * CriticalRates.of([rate.value for rate in own], 1, False).low
            ramp = [gentle * (k + 1) / sizes.warm_up for k in range(sizes.warm_up)]
            self._count(len(training.train(stream, ramp)))
            after += self._critical(objective, training, stream)
        start, warmed = (self._summary(rates) for rates in (at_start, after))
        search = RateSearch(self.trial)
        best = search.best(max(start.median, warmed.median), sizes.seeds)
        every = range(sizes.seeds)
        lowest = search.mean(best, every)
        first = statistics.fmean(search.trials[best, seed].start for seed in every)
        trained = math.isfinite(lowest) and lowest < first
        good = search.nearly_as_good(best, sizes.seeds) if trained else [best]
        needed, without = self._warm_up_needed(best, start, first, lowest) if trained else (False, [])
        shares = _mean_shares(after) or _mean_shares(at_start)
        block = max(shares, key=lambda name: shares[name], default="")
        trials = sorted([*search.trials.values(), *without], key=lambda t: (t.warm_up, t.rate, t.seed))
        return LearningRateSuggestion(
            suggested=best,
            low=min(good),
            high=max(good),
            at_start=start,
            after_warm_up=warmed,
            warm_up_needed=needed,
            warm_up=sizes.warm_up,
            limiting_block=block,
            share=shares.get(block, 0.0),
            trials=tuple(trials),
            trained=trained,
            optimizer=self.name,
            schedule=self.schedule,
            seeds=sizes.seeds,
            cost=Cost(losses=self.losses, gradients=self.gradients),
            seconds=time.perf_counter() - self.began,
            mode=self.mode,
            notes=tuple(sizes.notes),
        )

    def _step_seconds(self) -> float:
        """The time of a training step, the second of two, on a copy that is thrown away."""
        training, stream = self.copy(0), self.stream.batches(0)
        training.step(next(stream), 0.0)
        began = time.perf_counter()
        training.step(next(stream), 0.0)
        self._count(2)
        return max(time.perf_counter() - began, 1e-6)

    def _objective(self, training: TrainingCopy, batch: Batch, check: bool) -> Objective:
        objective = Objective(training.model, training.loss_fn, batch, threads=None, check=check)
        self.mode = objective.mode
        return objective

    def _critical(self, objective: Objective, training: TrainingCopy, stream: Iterator[Batch]) -> list[BatchRate]:
        found = []
        for _ in range(self.sizes.batches):
            part = on_batch(objective, next(stream))
            rate = batch_critical_rate(part, training)
            part.release()
            if rate is not None:
                found.append(rate)
                self.losses += rate.losses
                self.gradients += rate.gradients
            self._tell(PER_BATCH, "critical rates of batches")
        if not found:
            raise InputError(
                "on no batch does the optimizer's step lower the loss: its gradient is zero, or the step goes uphill",
                expected="a model that is not at a minimum, and an optimizer that minimizes",
            )
        if len(found) < self.sizes.batches:
            missing = self.sizes.batches - len(found)
            self.sizes.notes.append(f"{missing} batches have no critical rate: a zero gradient, or a step uphill")
        return found

    def _summary(self, rates: list[BatchRate]) -> CriticalRates:
        unbounded = any(not rate.bounded for rate in rates)
        return CriticalRates.of([rate.value for rate in rates], self.sizes.seeds, unbounded)

    def trial(self, rate: float, seed: int, warm_up: bool = True) -> RateTrial:
        """Train for a short time at this rate; every rate sees the same batches of its seed."""
        sizes, training = self.sizes, self.copy(seed)
        stream = self.stream.batches(seed)
        ramp = [rate * (k + 1) / sizes.warm_up if warm_up else rate for k in range(sizes.warm_up)]
        factors = [_factor(self.schedule, k / sizes.steps) for k in range(sizes.steps)]
        losses = training.train(stream, ramp + [rate * factor for factor in factors])
        self._count(len(losses), f"trial at {rate:.2g}")
        few = max(1, sizes.steps // LAST)
        whole = len(losses) == sizes.warm_up + sizes.steps
        loss = statistics.fmean(losses[-few:]) if whole else math.inf
        return RateTrial(rate, seed, loss, losses[0], len(losses), warm_up)

    def _warm_up_needed(
        self, rate: float, start: CriticalRates, first: float, lowest: float
    ) -> tuple[bool, list[RateTrial]]:
        """Whether training without it is worse; not tried where the rate is stable at the start anyway."""
        if rate <= start.low:
            return False, []
        trials = [self.trial(rate, seed, warm_up=False) for seed in range(self.sizes.seeds)]
        mean = statistics.fmean(trial.loss for trial in trials)
        return not mean <= first - NEARLY * (first - lowest), trials

    def _count(self, steps: int, words: str = "warm-up") -> None:
        self.gradients += steps
        self._tell(steps, words)

    def _tell(self, gradients: float, words: str) -> None:
        self.done += gradients
        if self.progress is not None:
            self.progress(min(0.99, self.done / self.sizes.gradients), words)


def _factor(schedule: str, share: float) -> float:
    """The learning rate over its highest after this share of the steps."""
    return {"constant": 1.0, "linear": 1 - share, "cosine": 0.5 * (1 + math.cos(math.pi * share))}[schedule]


def _mean_shares(rates: list[BatchRate]) -> dict[str, float]:
    known = [rate.shares for rate in rates if rate.shares]
    return {name: statistics.fmean(each[name] for each in known) for name in (known[0] if known else {})}
