"""How long one gradient of a training run takes here, without the run, and without downloading its data."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from edgescope.data import DATA, DataShape
from edgescope.errors import InputError
from edgescope.losses import LOSSES, supervised
from edgescope.memory import out_of_memory_error
from edgescope.models import MODELS, parameter_count
from edgescope.objective.checks import usable_device
from edgescope.objective.modules import thread_count
from edgescope.training.config import RunConfig
from edgescope.training.parts import Parts, is_pair

FIRST: Final = 32
"""Samples of the first gradient that is timed."""

LONG_ENOUGH: Final = 0.1
"""Seconds of a gradient from which that of more samples is extrapolated."""

REPEATS: Final = 3
"""Times that a short gradient is computed; the fastest counts."""


@dataclass(frozen=True)
class GradientTime:
    """The size of a training run, and the ``seconds`` of a gradient over some of its samples, or over all.

    ``samples`` is the number of all training samples. ``data_bytes`` are those of training and test data,
    ``parameter_bytes`` those of one vector of all parameters. ``timed_samples`` are those of the largest gradient that
    was timed; that of more samples is extrapolated in proportion to their number.
    """

    parameters: int
    samples: int
    data_bytes: int
    parameter_bytes: int
    seconds: float
    timed_samples: int


@dataclass(frozen=True)
class _Problem:
    """A model and its loss; ``batch(n)`` are n training samples, of the data or random."""

    model: nn.Module
    loss_fn: Any
    samples: int
    data_bytes: int
    batch: Callable[[int], tuple[Tensor, Tensor]]


def time_gradient(config: RunConfig, samples: int | None = None) -> GradientTime:
    """Time a gradient over ``samples`` (None: all training samples) of the run described by ``config``.

    On its device and with its threads. Data that would be downloaded are replaced by random ones of their published
    shape; other data are loaded. Cost: gradients of growing numbers of samples until one takes 0.1 seconds. Raises
    :class:`InputError` where the parts do not fit together, or for a function whose data are no pair of tensors.
    """
    problem = _problem(config)
    first = next(problem.model.parameters())
    wanted = problem.samples if samples is None else min(samples, problem.samples)
    with torch.random.fork_rng(devices=[]), thread_count(config.threads or torch.get_num_threads()):
        timed, seconds = _long_enough(problem, wanted, first.device)
    parameters = parameter_count(problem.model)
    return GradientTime(
        parameters=parameters,
        samples=problem.samples,
        data_bytes=problem.data_bytes,
        parameter_bytes=parameters * first.element_size(),
        seconds=seconds * wanted / timed,
        timed_samples=timed,
    )


def _problem(config: RunConfig) -> _Problem:
    if config.function is None:
        shape = DATA.build(config.data, train=config.train, test=config.test).published_shape()
        if shape is not None:
            return _random_problem(config, shape)
    parts = Parts(config)
    if not is_pair(parts.samples):
        raise InputError("data that are no pair of tensors", expected="inputs and targets")
    inputs, targets = parts.samples
    test = parts.test_samples if is_pair(parts.test_samples) else ()
    size = sum(part.nbytes for part in (inputs, targets, *test))
    return _Problem(parts.model, parts.loss_fn, len(inputs), size, lambda n: (inputs[:n], targets[:n]))


def _random_problem(config: RunConfig, shape: DataShape) -> _Problem:
    dtype = getattr(torch, config.dtype)
    device = usable_device(config.device or "cpu")
    model = MODELS.build(config.model).build(shape.input_shape, shape.classes, config.seed).to(device, dtype)
    generator = torch.Generator().manual_seed(0)

    def batch(n: int) -> tuple[Tensor, Tensor]:
        inputs = torch.randn(n, *shape.input_shape, generator=generator, device="cpu", dtype=dtype)
        targets = torch.randint(shape.classes, (n,), generator=generator, device="cpu")
        return inputs.to(device), targets.to(device)

    each = math.prod(shape.input_shape) * dtype.itemsize + torch.int64.itemsize
    loss_fn = supervised(LOSSES.build(config.loss))
    return _Problem(model, loss_fn, shape.train, each * (shape.train + shape.test), batch)


def _long_enough(problem: _Problem, wanted: int, device: torch.device) -> tuple[int, float]:
    """How many samples were timed at last, and the seconds of their gradient."""
    count = min(FIRST, wanted)
    seconds = _seconds(problem, count, device)
    while count < wanted and seconds < LONG_ENOUGH:
        # Not more at once than are expected to take several times as long as is needed.
        more = min(wanted, count * max(2, min(16, int(2 * LONG_ENOUGH / max(seconds, 1e-6)))))
        try:
            seconds = _seconds(problem, more, device)
        except (RuntimeError, MemoryError) as error:
            if out_of_memory_error(error) is None:
                raise
            break  # a run takes such a gradient in pieces
        count = more
    return count, seconds


def _seconds(problem: _Problem, count: int, device: torch.device) -> float:
    """The fastest of several gradients over ``count`` samples, after one that is not timed."""
    batch = problem.batch(count)
    model = problem.model.train()
    fastest = math.inf
    for repeat in range(1 + REPEATS):
        model.zero_grad()
        began = time.perf_counter()
        problem.loss_fn(model, batch).backward()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        seconds = time.perf_counter() - began
        if repeat or seconds > LONG_ENOUGH:
            fastest = min(fastest, seconds)
        if seconds > LONG_ENOUGH:
            break
    return fastest
