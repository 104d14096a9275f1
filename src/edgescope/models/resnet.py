"""Small residual networks with batch normalisation."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from edgescope.errors import InputError
from edgescope.models.activation import ActivationName, activation
from edgescope.models.model import MOST_LAYERS, ModelConfig, check_some_layers, require_image
from edgescope.options import check_fields, integer


@dataclass(frozen=True)
class ResNet(ModelConfig):
    """Residual stages of the given widths, ``blocks`` blocks each, global average pooling and a linear head.

    The layout of He et al. (2016) for CIFAR-10: widths 16, 32, 64 with ``blocks=3`` make ResNet-20. Every stage but
    the first halves the image; there the shortcut is a 1x1 convolution. PyTorch default initialisation.
    """

    widths: tuple[int, ...] = (16, 32, 64)
    blocks: int = 1
    activation: ActivationName = "relu"

    def __post_init__(self) -> None:
        check_fields(self, self.owner, widths=check_some_layers, blocks=integer(1, MOST_LAYERS))

    def assemble(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        channels, height, width = require_image(input_shape, "resnet")
        smallest = 2 ** (len(self.widths) - 1)
        if min(height, width) < smallest:
            raise InputError(
                f"images of {height} x {width} pixels for a resnet with {len(self.widths)} stages",
                expected=f"at least {smallest} x {smallest} pixels",
                hint="fewer widths= entries",
            )
        layers = OrderedDict[str, nn.Module](stem=_convolution(channels, self.widths[0], 3))
        layers["act"] = activation(self.activation)
        channels = self.widths[0]
        for stage, filters in enumerate(self.widths):
            for block in range(self.blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers[f"stage{stage}_block{block}"] = _Residual(channels, filters, stride, self.activation)
                channels = filters
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["head"] = nn.Linear(channels, outputs)
        return nn.Sequential(layers)


class _Residual(nn.Module):
    def __init__(self, channels: int, filters: int, stride: int, act: ActivationName) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            _convolution(channels, filters, 3, stride), activation(act), _convolution(filters, filters, 3)
        )
        same = stride == 1 and channels == filters
        self.shortcut = nn.Identity() if same else _convolution(channels, filters, 1, stride)
        self.act = activation(act)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N F h w"]:
        return self.act(self.branch(x) + self.shortcut(x))


def _convolution(channels: int, filters: int, size: int, stride: int = 1) -> nn.Module:
    # The normalisation that follows has a bias of its own.
    conv = nn.Conv2d(channels, filters, size, stride=stride, padding=size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(filters))
