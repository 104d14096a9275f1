"""Training loops with several optimizers, or with one in the place of another, as users write them."""

from __future__ import annotations

import contextlib

import torch
from loops_of_one_optimizer import Fails
from monitor_runs import STEPS, Run, backward, small
from torch.optim import SGD, Adam, AdamW
from training_loops import Loops

LOOPS = Loops()


@LOOPS.add
def failing_one_of_two(run: Run) -> None:
    model = small()
    first, second = Fails(model[0].parameters(), lr=0.2), SGD(model[2].parameters(), lr=0.2)
    run.watch(model, first, second)
    taken = 0
    while taken < STEPS:
        first.zero_grad()
        second.zero_grad()
        backward(model)
        run.at("micro")
        run.at("early")
        with contextlib.suppress(RuntimeError):
            first.step()
        second.step()
        taken += 1
        run.stepped()


@LOOPS.add
def muon_and_adamw(run: Run) -> None:
    model = small()
    matrices, vectors = [model[0].weight, model[2].weight], [model[0].bias, model[2].bias]
    both = [torch.optim.Muon(matrices, lr=0.02), AdamW(vectors, lr=0.01)]
    run.watch(model, *both)
    for _ in range(STEPS):
        backward(model)
        run.at("micro")
        run.at("early")
        for optimizer in both:
            optimizer.step()
            optimizer.zero_grad()
        run.stepped()


@LOOPS.add
def called_after_each_of_two(run: Run) -> None:
    model = small()
    both = SGD(model[0].parameters(), lr=0.2), Adam(model[2].parameters(), lr=0.02)
    run.watch(model, *both)
    for _ in range(STEPS):
        for number, optimizer in enumerate(both):
            optimizer.zero_grad()
            backward(model)
            run.at("micro")
            run.at("early")
            optimizer.step()
            if number:
                run.stepped()
            else:
                run.at("after")


@LOOPS.add
def one_steps_every_fifth_time(run: Run) -> None:
    model = small()
    often, seldom = SGD(model[0].parameters(), lr=0.1), SGD(model[2].parameters(), lr=0.2, momentum=0.9)
    run.watch(model, often, seldom)
    for number in range(STEPS):
        for optimizer in (often, seldom)[: 2 if number % 5 == 4 else 1]:
            often.zero_grad()
            seldom.zero_grad()
            backward(model)
            run.at("micro")
            run.at("early")
            optimizer.step()
        run.stepped()


@LOOPS.add
def one_steps_twice(run: Run) -> None:
    model = small()
    twice, once = SGD(model[0].parameters(), lr=0.1), SGD(model[2].parameters(), lr=0.2)
    run.watch(model, twice, once)
    for number in range(STEPS):
        for optimizer in (twice,) if number % 2 == 0 else (twice, once):
            model.zero_grad()
            backward(model)
            run.at("micro")
            run.at("early")
            optimizer.step()
        run.stepped()


@LOOPS.add
def replaced_by_another(run: Run) -> None:
    model = small()
    first, second = SGD(model.parameters(), lr=0.2), Adam(model.parameters(), lr=0.02)
    run.watch(model, first)
    for number in range(STEPS):
        optimizer = first if number < 3 else second
        optimizer.zero_grad()
        backward(model)
        run.at("micro")
        run.at("early")
        optimizer.step()
        run.stepped()
    run.optimizers = first, second


@LOOPS.add
def second_not_passed(run: Run) -> None:
    model = small()
    first, second = SGD(model[0].parameters(), lr=0.2), Adam(model[2].parameters(), lr=0.02)
    run.watch(model, first)
    for _ in range(STEPS):
        model.zero_grad()
        backward(model)
        run.at("micro")
        run.at("early")
        first.step()
        second.step()  # found in the first step, to which it belongs
        run.stepped()
    run.optimizers = first, second
