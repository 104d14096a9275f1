"""Small causal transformers for text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from edgescope.errors import InputError
from edgescope.models.model import ModelConfig
from edgescope.models.transformer import Block, check_blocks


@dataclass(frozen=True)
class GPT(ModelConfig):
    """Token and learned position embeddings, causal pre-LN blocks, a final LayerNorm and an untied, bias-free head.

    Built for inputs of shape ``(T,)``, the longest sequence, and as many outputs as tokens. Weights of linear layers
    and embeddings start at N(0, 0.02^2), biases at zero, LayerNorms at the identity; no dropout. The defaults are the
    transformer of Chen et al.'s TinyShakespeare experiment (112,512 parameters at T = 64 and 65 tokens).
    """

    width: int = 64
    heads: int = 4
    depth: int = 2

    def __post_init__(self) -> None:
        check_blocks(self)

    def assemble(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        if len(input_shape) != 1:
            raise InputError(
                f"gpt for inputs of shape {input_shape}", expected="token sequences of shape (length,)", hint="vit"
            )
        return _GPT(self, input_shape[0], outputs)


class _GPT(nn.Module):
    def __init__(self, config: GPT, length: int, tokens: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(tokens, config.width)
        self.positions = nn.Embedding(length, config.width)
        self.blocks = nn.Sequential(*(Block(config.width, config.heads, causal=True) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, tokens, bias=False)
        self.apply(_initialise)

    def forward(self, tokens: Int[Tensor, "N T"]) -> Float[Tensor, "N T tokens"]:
        length, longest = tokens.shape[-1], self.positions.num_embeddings
        if length > longest:
            raise InputError(f"a sequence of {length} tokens for a gpt built for {longest}", expected="a shorter one")
        x = self.tokens(tokens) + self.positions(torch.arange(length, device=tokens.device))
        return self.head(self.norm(self.blocks(x)))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
