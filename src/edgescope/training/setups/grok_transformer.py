"""Modular addition by a one-layer transformer."""

from __future__ import annotations

from dataclasses import dataclass

from edgescope.training.config import RunConfig


@dataclass(frozen=True)
class GrokTransformer(RunConfig):
    """Addition modulo 31 by a one-layer transformer, which memorises first and understands later.

    After Nanda et al. (2023, arXiv 2301.05217): one layer without LayerNorm, full batch, AdamW with decay 1 and betas
    of 0.9 and 0.98 (recalled); theirs has the prime 113 and 30% of the pairs. Mirrored pairs are left out, since a
    transformer knows a sum from its mirror image, and its test accuracy would not begin at chance.
    """

    data: str = "modular-addition:modulus=31,share=0.7,mirrored=false"
    model: str = "encoder:width=48,layernorm=false"
    loss: str = "cross-entropy"
    optimizer: str = "adamw:weight_decay=1,betas=0.9x0.98"
    lr: float = 3e-3
    steps: int = 1500
    every: int | None = 25
    measures: tuple[str, ...] = ("loss", "accuracy", "norms", "sharpness@500")
