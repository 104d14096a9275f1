"""Small transformers that read a few symbols and say one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from edgescope.errors import InputError
from edgescope.models.model import ModelConfig
from edgescope.models.transformer import Block, check_blocks
from edgescope.options import integer


@dataclass(frozen=True)
class Encoder(ModelConfig):
    """Pre-LN blocks over ``symbols`` that come as one-hot vectors side by side, read out at one more position.

    Each symbol's vector is embedded by one matrix and given a learned position; a last position without a symbol (the
    "=" of a sum) starts as a learned vector, and a bias-free head reads it after the blocks. Embeddings and positions
    start at N(0, 1/width), all else has PyTorch's default initialisation. With ``layernorm=false`` one block over the
    two numbers of ``modular-addition`` is the network of Nanda et al. (2023, arXiv 2301.05217), GELU and biases aside.
    """

    symbols: int = 2
    width: int = 128
    heads: int = 4
    depth: int = 1
    layernorm: bool = True

    def __post_init__(self) -> None:
        check_blocks(self, symbols=integer(1))

    def assemble(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        size = math.prod(input_shape)
        if size % self.symbols:
            raise InputError(
                f"encoder with symbols={self.symbols} for inputs of {size} numbers",
                expected="a concatenation of one vector for each symbol, all of the same length",
            )
        return _Encoder(self, size // self.symbols, outputs)


class _Encoder(nn.Module):
    def __init__(self, config: Encoder, length: int, outputs: int) -> None:
        super().__init__()
        self.symbols = config.symbols
        self.embedding = nn.Linear(length, config.width, bias=False)
        self.positions = nn.Parameter(torch.randn(config.symbols + 1, config.width) / config.width**0.5)
        blocks = (Block(config.width, config.heads, False, config.layernorm) for _ in range(config.depth))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(config.width, outputs, bias=False)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)

    def forward(self, x: Float[Tensor, "N ..."]) -> Float[Tensor, "N outputs"]:
        symbols = self.embedding(x.flatten(1).unflatten(1, (self.symbols, -1)))
        asked = symbols.new_zeros(len(x), 1, symbols.shape[-1])
        return self.head(self.blocks(torch.cat([symbols, asked], 1) + self.positions)[:, -1])
