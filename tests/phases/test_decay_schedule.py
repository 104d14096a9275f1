"""Schedules of weight decay: against closed forms and gradient descent of deep linear networks."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import edgescope as es
from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.phases import Barrier, DecayTransitions, Scan, schedule
from edgescope.simulate.chains import chains
from edgescope.simulate.linear_data import Gaussian
from edgescope.simulate.linear_nets import balanced_nets, end_to_end, simulate
from edgescope.theory.deep_linear import Mode
from edgescope.training.decay_schedules import DECAY_SCHEDULES

BETWEEN = DecayTransitions(0.1, 0.5)


def descended(mode: Mode, w: float, decay: float, steps: int, lr: float) -> float:
    """All weights of a mode after steps of gradient descent, by the recursion itself."""
    for _ in range(steps):
        w += lr * ((mode.signal - w**mode.depth) * w ** (mode.depth - 1) - decay * w)
    return w


@settings(max_examples=15, deadline=None)
@given(
    depth=st.integers(3, 4), signal=st.floats(0.5, 2), share=st.floats(0.3, 0.9), ratio=st.floats(0.6, 0.95),
    low=st.floats(0, 0.5), goal=st.sampled_from(["learn", "free"]),
)  # fmt: skip
def test_a_mode_that_constant_decay_traps_is_learned_and_kept_under_the_schedule(
    depth: int, signal: float, share: float, ratio: float, low: float, goal: Any
) -> None:
    mode = Mode(depth, signal)
    final = share * mode.critical_decay()
    start = ratio * mode.saddle(final)
    low, lr = low * mode.growth_decay(start), 0.1 / signal / depth
    plan = schedule(mode, goal=goal, final=final, low=low, start=start, lr=lr)
    settle = math.ceil(2 / final / lr)
    assert descended(mode, start, final, plan.steps[-1] + settle, lr) < start
    at_the_rise = descended(mode, start, low, plan.steps[-1], lr)
    assert at_the_rise > mode.saddle(final)
    kept = descended(mode, at_the_rise, final, settle, lr)
    assert mode.minimum(final) * 0.99 < kept <= max(at_the_rise, mode.minimum(final))
    assert max(plan.decays) <= (1 - plan.margin) * mode.critical_decay()
    assert plan.decays == (low, final)
    assert low <= (1 - plan.margin) * mode.growth_decay(start)
    assert plan.transitions == DecayTransitions(0.0, mode.critical_decay())


@pytest.mark.parametrize("depth", [3, 4])
def test_whole_networks_learn_both_modes_under_the_schedule_of_the_weaker(depth: int) -> None:
    mode, sizes = Mode(depth, 0.6), (2, *(4,) * (depth - 1), 2)
    final = 0.6 * mode.critical_decay()
    start = 0.5 * mode.saddle(final)
    plan = schedule(mode, final=final, start=start, lr=0.05)
    assert (plan.means, plan.decays) == ("low decay", (0.0, final))
    nets, data = balanced_nets(start**depth * np.eye(2), sizes), Gaussian(np.diag([0.9, 0.6]))
    steps = round(10 / final / 0.05)
    constant = simulate(data, nets, sizes, decay=final, lr=0.05, steps=plan.steps[1] + steps).nets
    learned = simulate(data, nets, sizes, decay=0.0, lr=0.05, steps=plan.steps[1]).nets
    kept = simulate(data, learned, sizes, decay=final, lr=0.05, steps=steps).nets
    assert end_to_end(constant, sizes)[0, 1, 1] < start**depth
    expected = [Mode(depth, s).minimum_product(final) for s in (0.9, 0.6)]
    assert np.diag(end_to_end(kept, sizes)[0]) == pytest.approx(expected, rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(
    decays=st.lists(st.floats(0, 0.4), min_size=3, max_size=3),
    ends=st.lists(st.integers(1, 300), min_size=2, max_size=2),
)
def test_no_schedule_is_ahead_of_no_decay(decays: list[float], ends: list[int]) -> None:
    mode, lr = Mode(3, 0.8), 0.05
    w = free = 0.2
    for step in range(400):
        w = descended(mode, w, decays[sum(end <= step for end in ends)], 1, lr)
        free = descended(mode, free, 0.0, 1, lr)
        assert w <= free


@pytest.mark.parametrize(("depth", "signal", "variance"), [(1, 0.7, 1.0), (2, 0.9, 0.5), (3, 1.0, 1.0), (5, 0.8, 2.0)])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_times_of_gradient_flow(depth: int, signal: float, variance: float, decay: float) -> None:
    mode, start, end = Mode(depth, signal, variance), 0.4, 0.6
    time = mode.learning_time(decay, start, end)
    if depth == 1:
        rest = signal / (variance + decay)
        expected = math.log((rest - start) / (rest - end)) / (variance + decay)
    elif depth == 2:
        room = signal - decay
        ends = [w**2 / (room - variance * w**2) for w in (start, end)]
        expected = math.log(ends[1] / ends[0]) / (2 * room)
    else:
        w = np.linspace(start, end, 200_001)
        force = (signal - variance * w**depth) * w ** (depth - 1) - decay * w
        expected = float(np.trapezoid(1 / force, w))
    assert time == pytest.approx(expected, rel=1e-8)
    assert mode.learning_time(decay, start, 2 * signal) == math.inf


@pytest.mark.parametrize(("depth", "variance"), [(3, 1.0), (4, 2.0), (6, 0.5)])
def test_the_decay_below_which_weights_grow(depth: int, variance: float) -> None:
    mode = Mode(depth, 0.9, variance)
    for share in (0.1, 0.9):
        decay = share * mode.critical_decay()
        for w in (mode.saddle(decay), mode.minimum(decay)):
            assert mode.growth_decay(w) == pytest.approx(decay, rel=1e-9)
    assert mode.growth_decay(np.linspace(0.01, 2, 4000)).max() == pytest.approx(mode.critical_decay(), rel=1e-5)
    assert mode.learning_time(0.5 * mode.critical_decay(), 0.01, 0.02) == math.inf


def test_noise_frees_95_of_100_chains_in_its_steps() -> None:
    mode, decay, lr = Mode(3, 1.0), 0.2, 0.1
    plan = schedule(mode, goal="free", final=decay, steps=20_000, lr=lr)
    (temperature, after), height = plan.temperatures, mode.barrier_up(decay)
    assert (after, plan.means, plan.barrier) == (0.0, "noise", height)
    assert mode.kramers_time(decay, temperature) * math.log(20) == pytest.approx(20_000 * lr, rel=1e-12)
    level = (mode.saddle_product(decay) + mode.minimum_product(decay)) / 2
    run = chains(mode, decay, lr=lr, steps=20_000, level=level, temperature=temperature, replicas=200, seed=1)
    assert 0.9 < run.passed.mean() < 0.99
    assert plan.temperature_at(19_999) == temperature
    assert plan.temperature_at(20_000) == 0
    least = schedule(mode, goal="free", final=decay, steps=1_000_000, lr=lr).temperatures[0]
    assert least < temperature


def made_path(height: float, error: float = 0.0) -> Barrier:
    nothing = torch.zeros(1)
    return Barrier(height, 2 * height, error, nothing, nothing[None], nothing, 0.0, 0.0, True, 1, Cost())


def test_noise_over_a_path_follows_arrhenius() -> None:
    plan = schedule(made_path(0.02), goal="free", final=0.25, steps=100_000, lr=0.01)
    mean = 1 / 0.25 * math.exp(0.02 / plan.temperatures[0])
    assert 1 - math.exp(-100_000 * 0.01 / mean) == pytest.approx(0.95)
    assert plan.decays == (0.25, 0.25)


def made_scan(back: bool = True, jumps: bool = True) -> Scan:
    decays = np.array([0.01, 0.02, 0.04, 0.08, 0.16, 0.32])
    up = np.array([1.0, 0.98, 0.96, 0.9, 0.85, 0.0]) if jumps else np.linspace(1, 0, 6)
    down = np.array([1.0, 0.98, 0.0, 0.0, 0.0, 0.0]) if back else np.zeros(6)
    states, residual, settled, between = (
        {"up": one, "down": one} for one in (torch.ones(6, 1), np.ones(6), np.ones(6, dtype=bool), {})
    )  # type: ignore[misc]
    ways: Any = (between, states, residual, settled)
    return Scan(decays, {"norm": up}, {"norm": down if jumps else up}, *ways, Cost())


def test_a_sweep_says_where_the_decay_may_be() -> None:
    found = DecayTransitions.of(made_scan())
    assert (found.lower, found.upper) == (0.02, 0.16)
    assert DecayTransitions.of(made_scan(back=False)).lower == 0
    learn = schedule(made_scan(), steps=100, raising=30)
    assert learn.decays == (0.0, 0.01, 0.02, 0.04, 0.08, pytest.approx(0.144))
    assert learn.steps == (0, 100, 106, 112, 118, 124)
    free = schedule(made_scan(), goal="free", steps=100, margin=0.5)
    assert (free.means, free.decays, free.steps) == ("dip", (0.01, 0.08), (0, 100))
    assert schedule(BETWEEN, steps=7, raising=2).steps == (0, 7, 8)


def test_optimizers_get_the_decay_of_each_step() -> None:
    plan = schedule(BETWEEN, steps=3, final=0.4)
    w, other = (torch.ones(1, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [w]}, {"params": [other]}], lr=0.1, weight_decay=0.7)
    seen = []
    for step in range(5):
        plan.apply(optimizer, step, groups=[0])
        seen.append(optimizer.param_groups[0]["weight_decay"])
    assert seen == [plan.at(step) for step in range(5)] == [0, 0, 0, 0.4, 0.4]
    assert optimizer.param_groups[1]["weight_decay"] == 0.7
    noisy = schedule(Mode(3, 1.0), goal="free", final=0.2, steps=20_000, lr=0.1)
    langevin = es.optim.Langevin([w], lr=0.1, temperature=1.0)
    noisy.apply(langevin, 0)
    assert langevin.param_groups[0]["temperature"] == noisy.temperatures[0]
    noisy.apply(langevin, 20_000)
    assert langevin.param_groups[0]["temperature"] == 1e-30
    with pytest.raises(InputError, match=r"schedule with noise for SGD.*Langevin"):
        noisy.apply(optimizer, 0)
    with pytest.raises(InputError, match=r"schedule with noise as an option"):
        noisy.as_option()


def test_a_schedule_as_an_option_of_runs() -> None:
    plan = schedule(BETWEEN, steps=3, raising=10)
    built: Any = DECAY_SCHEDULES.build(plan.as_option())
    assert (built.steps, built.decays) == (plan.steps, plan.decays)


BAD: dict[str, Any] = {
    "a schedule from a value of type str": lambda: schedule("scan"),  # type: ignore[arg-type]
    "a mode of depth 2": lambda: schedule(Mode(2, 1.0), lr=0.1, start=0.1),
    "without steps; expected start= and lr=": lambda: schedule(Mode(3, 1.0), lr=0.1),
    "final=0.45 with the upper spinodal at 0.4725; expected at most 0.4252": lambda: schedule(
        Mode(3, 1.0), final=0.45, lr=0.1, start=0.1
    ),
    "weights of 0.1 do not grow; expected less than 0.0999": lambda: schedule(Mode(3, 1.0), low=0.2, lr=0.1, start=0.1),
    "low=0.0999, at which": lambda: schedule(Mode(3, 1.0), low=0.0999, lr=0.1, start=0.1, steps=9),
    "low=0.09 and final=0.05": lambda: schedule(BETWEEN, low=0.09, final=0.05, steps=9),
    "a schedule without steps": lambda: schedule(BETWEEN),
    "low=0.2, at which the network stays trapped; expected at most 0.09": lambda: schedule(BETWEEN, low=0.2, steps=9),
    "came back at no decay": lambda: schedule(made_scan(back=False), goal="free", steps=9),
    "'norm' does not jump on the way up": lambda: schedule(made_scan(jumps=False), steps=9),
    "no order parameter 'rank'": lambda: schedule(made_scan(), steps=9, order="rank"),
    "noise without steps and lr": lambda: schedule(Mode(3, 1.0), goal="free"),
    "steps=10, too few for noise": lambda: schedule(Mode(3, 1.0), goal="free", lr=0.1, steps=10),
    "noise at decay 0;": lambda: schedule(Mode(3, 1.0), goal="free", lr=0.1, steps=10, low=0.0),
    "learn from a Barrier": lambda: schedule(made_path(0.1), steps=9, lr=0.1, final=0.1),
    "Barrier without final": lambda: schedule(made_path(0.1), goal="free", steps=9, lr=0.1),
    "a path of height 0.1 .- 0.2": lambda: schedule(made_path(0.1, 0.2), goal="free", steps=9, lr=0.1, final=0.1),
    "goal='unlearn'": lambda: schedule(BETWEEN, goal="unlearn"),  # type: ignore[arg-type]
    "margin=1": lambda: schedule(BETWEEN, margin=1.0),
    "steps=0": lambda: schedule(BETWEEN, steps=0),
    "lower=0.3 above upper=0.2": lambda: DecayTransitions(0.3, 0.2),
    "steps that rise from 0": lambda: DECAY_SCHEDULES.build("knots:steps=0x5x5,decays=0x1x2"),
    "2 decays at 1 steps": lambda: DECAY_SCHEDULES.build("knots:steps=0,decays=0x1"),
    "1 temperatures at 2 steps": lambda: dataclasses.replace(schedule(BETWEEN, steps=3), temperatures=(0.0,)),
    "parameter group 4; expected 0 to 0": lambda: schedule(BETWEEN, steps=3).apply(
        torch.optim.SGD([torch.ones(1)], lr=0.1), 0, groups=[4]
    ),
    "LBFGS; expected an optimizer with a weight_decay": lambda: schedule(BETWEEN, steps=3).apply(
        torch.optim.LBFGS([torch.ones(1)]), 0
    ),
    "step=-1": lambda: schedule(BETWEEN, steps=3).at(-1),
}  # fmt: skip


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_refused_in_one_line(words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        BAD[words]()
    assert "\n" not in str(caught.value)
