"""The networks on which schedules of weight decay are compared with constant decay: images and grokking set-ups."""

from __future__ import annotations

from dataclasses import replace

from edgescope.experiments.phases.decay_trials import DecayProblem
from edgescope.training import SETUPS, RunConfig


def image_problems() -> tuple[DecayProblem, ...]:
    """Four layers of tanh units on 500 images, from small weights, from where decay can trap them.

    The accuracies are such that a constant decay of 0.004 reaches them, on seeds that are not compared: on
    Fashion-MNIST at step 400, while 0.001 does not.
    """
    digits = RunConfig(
        data="digits", model="mlp:widths=32x32x32,activation=tanh,gain=0.3", loss="cross-entropy",
        optimizer="sgd:momentum=0.9", lr=0.1, train=500, steps=1000,
    )  # fmt: skip
    return (
        DecayProblem("digits", digits, usual=1e-3, target=0.9, memorised=0.99),
        DecayProblem("fashion", replace(digits, data="fashion-5k:pool=4"), usual=1e-3, target=0.74, memorised=0.99),
    )


def grokking_problems() -> tuple[DecayProblem, ...]:
    """The three set-ups, each to the test accuracy, or test loss, that it is known to reach."""
    mlp, transformer, teacher = (SETUPS.build(f"grok-{name}") for name in ("mlp", "transformer", "teacher"))
    return (
        DecayProblem("grok-mlp", mlp, usual=1.0, target=0.95, memorised=0.99),
        DecayProblem("grok-transformer", replace(transformer, steps=1600), usual=1.0, target=0.95, memorised=0.99),
        DecayProblem("grok-teacher", teacher, usual=0.1, target=0.05, memorised=0.05, by_loss=True),
    )
