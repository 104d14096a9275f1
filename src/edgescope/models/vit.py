"""Small vision transformers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from edgescope.errors import InputError
from edgescope.models.model import ModelConfig, require_image
from edgescope.models.transformer import Block, check_blocks
from edgescope.options import integer


@dataclass(frozen=True)
class ViT(ModelConfig):
    """Square patches embedded linearly, learned positions, pre-LN blocks, the mean over patches and a linear head.

    After Dosovitskiy et al. (2021), with the mean instead of a class token and without dropout. Positions start at
    N(0, 0.02^2); all else has PyTorch's default initialisation.
    """

    patch: int = 4
    width: int = 64
    heads: int = 4
    depth: int = 2

    def __post_init__(self) -> None:
        check_blocks(self, patch=integer(1))

    def assemble(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        channels, height, width = require_image(input_shape, "vit")
        if height % self.patch or width % self.patch:
            raise InputError(
                f"images of {height} x {width} pixels for patches of {self.patch} x {self.patch}",
                expected="a patch size that divides both sides",
            )
        patches = (height // self.patch) * (width // self.patch)
        return _ViT(self, channels, patches, outputs)


class _ViT(nn.Module):
    def __init__(self, config: ViT, channels: int, patches: int, outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Conv2d(channels, config.width, config.patch, stride=config.patch)
        self.positions = nn.Parameter(0.02 * torch.randn(patches, config.width))
        self.blocks = nn.Sequential(*(Block(config.width, config.heads, causal=False) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, outputs)

    def forward(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N outputs"]:
        x = self.embedding(images).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.blocks(x)).mean(1))
