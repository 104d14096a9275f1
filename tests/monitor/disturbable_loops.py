"""Training loops with much that a measurement could disturb: generators, buffers, modes, precision, averages."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monitor_runs import LOSS, STEPS, Run, backward, data, small
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

DISTURBABLE: dict[str, Callable[[Run], None]] = {}


def loop(function: Callable[[Run], None]) -> Callable[[Run], None]:
    DISTURBABLE[function.__name__] = function
    return function


def each_step(run: Run, model: nn.Module, optimizer: Any, loss: Callable[[int], Any]) -> None:
    for number in range(STEPS):
        optimizer.zero_grad()
        loss(number)
        run.at("micro")
        run.at("early")
        optimizer.step()
        run.stepped()


@loop
def dropout_and_batch_statistics(run: Run) -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 3))
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = DataLoader(TensorDataset(*data()), batch_size=7, shuffle=True)
    run.watch(model, optimizer, batch=loader)
    for _ in range(2):
        for batch in loader:
            optimizer.zero_grad()
            backward(model, batch)
            optimizer.step()
            run.stepped()


@loop
def statistics_frozen_in_part(run: Run) -> None:
    model = nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)
    )
    model[1].eval()
    optimizer = Adam(model.parameters(), lr=0.01)
    run.watch(model, optimizer, mode="eval")
    each_step(run, model, optimizer, lambda _: backward(model))


@loop
def drawn_augmentation(run: Run) -> None:
    """Noise from three generators in the data, and a model that is in evaluation every other step."""
    model = nn.Sequential(*small(), nn.Dropout(0.2))
    optimizer = SGD(model.parameters(), lr=0.1)
    run.watch(model, optimizer)

    def loss(number: int) -> None:
        inputs, targets = data()
        model.train(number % 2 == 0)
        noise = torch.randn_like(inputs) * random.random() * float(np.random.rand())  # noqa: NPY002
        backward(model, (inputs + noise, targets))

    each_step(run, model, optimizer, loss)


@loop
def autocast_and_scaler(run: Run) -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    run.watch(model, optimizer)
    for _ in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = LOSS(model, data())
            run.at("early")  # inside autocast
        scaler.scale(loss).backward()
        run.at("micro")
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
        run.stepped()


@loop
def autocast_around_everything(run: Run) -> None:
    model = small()
    optimizer = Adam(model.parameters(), lr=0.01)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run.watch(model, optimizer)
        each_step(run, model, optimizer, lambda _: backward(model))


@loop
def parameters_in_bfloat16(run: Run) -> None:
    model = small().bfloat16()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    run.watch(model, optimizer)
    each_step(run, model, optimizer, lambda _: backward(model, data(dtype=torch.bfloat16)))


@loop
def sparse_embedding(run: Run) -> None:
    model = nn.Sequential(nn.Embedding(10, 4, sparse=True, padding_idx=0), nn.Tanh(), nn.Linear(4, 3))
    tokens = torch.randint(10, (24,), generator=torch.Generator().manual_seed(0)), data()[1]
    both = torch.optim.SparseAdam([model[0].weight], lr=0.02), Adam(model[2].parameters(), lr=0.02)
    run.watch(model, *both, batch=tokens)
    for _ in range(STEPS):
        model.zero_grad()
        backward(model, tokens)
        for optimizer in both:
            optimizer.step()
        run.stepped()


@loop
def moving_averages(run: Run) -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.1)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    run.watch(model, optimizer)

    def loss(_: int) -> None:
        backward(model)
        average.update_parameters(model)

    each_step(run, model, optimizer, loss)
    run.draws += [float(p.detach().sum()) for p in average.parameters()]


@loop
def gradients_that_are_kept(run: Run) -> None:
    """Gradients are zeroed and not let go, hooked, and made of two graphs of one forward pass."""
    model = small()
    for p in model.parameters():
        p.register_hook(lambda g: g + 0.01)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
    run.watch(model, optimizer)

    def loss(_: int) -> None:
        optimizer.zero_grad(set_to_none=False)
        value = LOSS(model, data())
        value.backward(retain_graph=True)
        (0.5 * value).backward()

    each_step(run, model, optimizer, loss)


@loop
def gradient_penalty(run: Run) -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.1)
    run.watch(model, optimizer)

    def loss(_: int) -> None:
        value = LOSS(model, data())
        found = torch.autograd.grad(value, tuple(model.parameters()), create_graph=True)
        (value + 0.1 * sum(g.square().sum() for g in found)).backward()

    each_step(run, model, optimizer, loss)


@loop
def state_in_the_modules(run: Run) -> None:
    """A module that counts its calls and keeps its outputs, weight norm, and an attribute that forward changes."""

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.utils.parametrizations.weight_norm(nn.Linear(5, 3))
            self.calls = 0
            self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.training:
                self.seen += 1
            return self.net(x)

    model = Counting()
    optimizer = Adam(model.parameters(), lr=0.02)
    run.watch(model, optimizer)
    each_step(run, model, optimizer, lambda _: backward(model))
    run.draws.append(model.calls)


@loop
def recurrent_with_dropout(run: Run) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(1, 4, num_layers=2, dropout=0.2, batch_first=True), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(x[..., None])[0][:, -1])

    model = Recurrent()
    optimizer = SGD(model.parameters(), lr=0.5)
    run.watch(model, optimizer)
    each_step(run, model, optimizer, lambda _: backward(model))


@loop
def attention(run: Run) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Unflatten(1, (5, 1)),
        nn.Linear(1, 4),
        nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True),
        nn.Flatten(),
        nn.Linear(20, 3),
    )
    optimizer = Adam(model.parameters(), lr=0.01)
    run.watch(model, optimizer)
    each_step(run, model, optimizer, lambda _: backward(model))
