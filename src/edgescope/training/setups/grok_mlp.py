"""Modular addition by a fully connected network."""

from __future__ import annotations

from dataclasses import dataclass

from edgescope.training.config import RunConfig


@dataclass(frozen=True)
class GrokMLP(RunConfig):
    """Addition modulo 53 by a two-layer MLP: memorised by step 100, 95% test accuracy at step 1,525; 20 s.

    Power et al. (2022, arXiv 2201.02177) took a transformer, Tuci et al. (2026, arXiv 2604.19740) two layers and the
    prime 97; here both numbers come as one-hot vectors to 128 ReLU units, full batch, AdamW with decay 1.
    """

    data: str = "modular-addition:modulus=53,share=0.5"
    model: str = "mlp:widths=128,activation=relu"
    loss: str = "cross-entropy"
    optimizer: str = "adamw:weight_decay=1,betas=0.9x0.98"
    lr: float = 0.01
    steps: int = 2500
    every: int | None = 25
    measures: tuple[str, ...] = ("loss", "accuracy", "norms", "sharpness@500")
