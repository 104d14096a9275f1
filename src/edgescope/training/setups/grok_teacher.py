"""A two-layer student of a two-layer teacher, whose weights are large at the start."""

from __future__ import annotations

from dataclasses import dataclass

from edgescope.training.config import RunConfig


@dataclass(frozen=True)
class GrokTeacher(RunConfig):
    """A student network that starts with four times the usual weights: 60 samples are fitted at step 200, the test
    loss has fallen at step 3,000; 15 s.

    After Liu et al. (2023, arXiv 2210.01117): tanh teacher and student of 5 inputs, 100 hidden units and 5 outputs
    (theirs have one layer more), AdamW; weight decay brings the norm down to where the student generalises, in a time
    that is inverse to lr times decay.
    """

    data: str = "teacher-network:train=60,test=500"
    model: str = "mlp:widths=100,activation=tanh,gain=4"
    optimizer: str = "adamw:weight_decay=0.1"
    lr: float = 3e-3
    steps: int = 6000
    every: int | None = 50
    measures: tuple[str, ...] = ("loss", "norms", "sharpness@1000")
