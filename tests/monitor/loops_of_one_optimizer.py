"""Training loops with one optimizer, as users write them."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import torch
from monitor_runs import LOSS, STEPS, Run, backward, data, small
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from training_loops import Loops, plainly

from edgescope.optim import SAM

LOOPS = Loops()


@LOOPS.add
def plain(run: Run) -> None:
    model = small()
    plainly(run, model, SGD(model.parameters(), lr=0.2))


@LOOPS.add
def scheduler_before(run: Run) -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.2, momentum=0.9, nesterov=True)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)

    def step() -> None:
        optimizer.step()
        scheduler.step()

    plainly(run, model, optimizer, step)


@LOOPS.add
def scheduler_after(run: Run) -> None:
    model = small()
    optimizer = Adam(model.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5)
    run.watch(model, optimizer)
    for _ in range(STEPS):
        optimizer.zero_grad()
        backward(model)
        run.at("micro")
        run.at("early")
        optimizer.step()
        run.stepped()
        scheduler.step()


@LOOPS.add
def accumulated(run: Run) -> None:
    model = small()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
    run.watch(model, optimizer)
    inputs, targets = data()
    for _ in range(STEPS):
        for part in range(4):
            rows = slice(6 * part, 6 * part + 6)
            backward(model, (inputs[rows], targets[rows]), 0.25)
            run.at("micro")
        run.at("early")
        optimizer.step()
        optimizer.zero_grad()
        run.stepped()


@LOOPS.add
def clipped(run: Run) -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.3, momentum=0.5)

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()

    plainly(run, model, optimizer, step)


def scaled_loop(run: Run, model: nn.Module, optimizer: Any) -> None:
    """Mixed precision: every third gradient overflows, and its step is skipped."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    run.watch(model, optimizer)
    taken = number = 0
    while taken < STEPS:
        number += 1
        overflows = number % 3 == 2

        def at_weights(factor: float) -> None:
            optimizer.zero_grad()
            scaler.scale(factor * LOSS(model, data())).backward()

        at_weights(float("inf") if overflows and not isinstance(optimizer, SAM) else 1.0)
        if isinstance(optimizer, SAM):
            optimizer.first_step(zero_grad=True)
            at_weights(float("inf") if overflows else 1.0)
        run.at("micro")
        run.at("early")
        scaler.step(optimizer)
        scaler.update()
        if overflows:
            run.at("after")  # which the loop cannot know
        else:
            taken += 1
            run.stepped()


@LOOPS.add
def gradient_scaler(run: Run) -> None:
    model = small()
    scaled_loop(run, model, SGD(model.parameters(), lr=0.2, momentum=0.9))


@LOOPS.add
def gradient_scaler_fused_sgd(run: Run) -> None:
    model = small()
    scaled_loop(run, model, SGD(model.parameters(), lr=0.2, fused=True))


@LOOPS.add
def gradient_scaler_fused_adam(run: Run) -> None:
    model = small()
    scaled_loop(run, model, Adam(model.parameters(), lr=0.02, fused=True))


@LOOPS.add
def gradient_scaler_sam(run: Run) -> None:
    model = small()
    scaled_loop(run, model, SAM(model.parameters(), SGD, lr=0.2, rho=0.1))


def with_closure(run: Run, model: nn.Module, optimizer: Any) -> None:
    """As Lightning steps: the loss and its gradient are worked out inside."""

    def closure() -> Tensor:
        with torch.enable_grad():
            optimizer.zero_grad()
            loss = backward(model)
        run.at("micro")
        return loss

    run.watch(model, optimizer)
    for _ in range(STEPS):
        run.at("early")
        optimizer.step(closure=closure)
        run.stepped()


@LOOPS.add
def closure_of_adamw(run: Run) -> None:
    model = small()
    with_closure(run, model, AdamW(model.parameters(), lr=0.02))


@LOOPS.add
def closure_of_lbfgs(run: Run) -> None:
    model = small()
    with_closure(run, model, torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3))


@LOOPS.add
def closure_of_sam(run: Run) -> None:
    model = small()
    with_closure(run, model, SAM(model.parameters(), SGD, lr=0.2, rho=0.1))


@LOOPS.add
def two_steps_of_sam(run: Run) -> None:
    model = small()
    optimizer = SAM(model.parameters(), Adam, lr=0.02, rho=0.1)
    run.watch(model, optimizer)
    for _ in range(STEPS):
        backward(model)
        run.at("early")
        optimizer.first_step(zero_grad=True)
        backward(model)
        run.at("micro")
        optimizer.second_step(zero_grad=True)
        run.stepped()


@LOOPS.add
def groups_of_sam(run: Run) -> None:
    model = small()
    optimizer = SAM(model.parameters(), SGD, lr=0.2, rho=0.1)
    run.watch(model, optimizer)
    inputs, targets = data()
    halves = [(inputs[:9], targets[:9]), (inputs[9:], targets[9:])]
    for _ in range(STEPS):
        run.at("early")
        optimizer.step([lambda half=half: backward(model, half) for half in halves], weights=[9, 15])
        run.stepped()


class Nested(SGD):
    """Takes the step of its base class inside its own, twice where it is told."""

    twice = False

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        if self.twice:
            super().step(closure)
        return loss


@LOOPS.add
def nested(run: Run) -> None:
    model = small()
    plainly(run, model, Nested(model.parameters(), lr=0.2))


@LOOPS.add
def nested_twice(run: Run) -> None:
    model = small()
    optimizer = Nested(model.parameters(), lr=0.1)
    optimizer.twice = True
    plainly(run, model, optimizer)


class Inside(torch.optim.Optimizer):
    """An optimizer of another package that has one inside, and moves the weights after its step."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        super().__init__(inner.param_groups, {})
        self.inner = inner

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        self.inner.step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(0.99)


@LOOPS.add
def wrapped_by_another_package(run: Run) -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.2)
    outer = Inside(optimizer)
    plainly(run, model, optimizer, outer.step)


class Fails(SGD):
    """Raises an exception at every third step, before or after it has moved the weights."""

    number = 0
    late = False

    def step(self, closure: Any = None) -> Any:
        self.number += 1
        if self.number % 3 == 0 and not self.late:
            raise RuntimeError("no step")
        super().step(closure)
        if self.number % 3 == 0:
            raise RuntimeError("too late")


@LOOPS.add
def failing(run: Run) -> None:
    model = small()
    optimizer = Fails(model.parameters(), lr=0.2)
    run.watch(model, optimizer)
    taken = 0
    while taken < STEPS:
        optimizer.zero_grad()
        backward(model)
        run.at("micro")
        run.at("early")
        try:
            optimizer.step()
        except RuntimeError:
            run.at("after")
        else:
            taken += 1
            run.stepped()


@LOOPS.add
def projected(run: Run) -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.5)

    def step() -> None:
        optimizer.step()
        with torch.no_grad():
            for p in model.parameters():
                p.clamp_(-0.3, 0.3)

    plainly(run, model, optimizer, step)


@LOOPS.add
def copied_and_pickled(run: Run) -> None:
    model = small()
    optimizer = Adam(model.parameters(), lr=0.02)

    def step() -> None:
        optimizer.step()
        copied = copy.deepcopy(optimizer)
        copied.step()  # steps copies of the parameters, without gradients
        pickle.loads(pickle.dumps(optimizer))
        torch.save(optimizer, io.BytesIO())

    plainly(run, model, optimizer, step)


@LOOPS.add
def loaded_in_between(run: Run) -> None:
    model = small()
    optimizer = Adam(model.parameters(), lr=0.02)

    def step() -> None:
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        optimizer.step()

    plainly(run, model, optimizer, step)
