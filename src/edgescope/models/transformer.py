"""The transformer block that the image and the text model share."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from edgescope.errors import InputError
from edgescope.models.model import MOST_LAYERS
from edgescope.options import Check, check_fields, integer


class Attention(nn.Module):
    """Multi-head self-attention with separate query, key and value matrices, all with biases.

    Separate matrices, because a geometry of matrices treats three stacked ones as another object.
    """

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "N T width"]) -> Float[Tensor, "N T width"]:
        query, key, value = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A pre-LN block: attention, then a two-layer GELU network four times as wide, each added to its input.

    Without ``layernorm`` neither has its input normalised.
    """

    def __init__(self, width: int, heads: int, causal: bool, layernorm: bool = True) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width) if layernorm else nn.Identity()
        self.attention = Attention(width, heads, causal)
        self.norm2 = nn.LayerNorm(width) if layernorm else nn.Identity()
        self.feedforward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "N T width"]) -> Float[Tensor, "N T width"]:
        x = x + self.attention(self.norm1(x))
        return x + self.feedforward(self.norm2(x))


def check_blocks(config: Any, **checks: Check) -> None:
    """Check what all models made of blocks have, ``width``, ``heads`` and ``depth``, and by ``checks`` the rest."""
    check_fields(config, config.owner, width=integer(1), heads=integer(1), depth=integer(1, MOST_LAYERS), **checks)
    if config.width % config.heads:
        raise InputError(
            f"{config.owner} with width={config.width} for {config.heads} heads",
            expected="a width that the heads divide evenly",
        )
