"""Networks by name: ``MODELS.build("mlp:widths=200x200,activation=tanh").build(input_shape, outputs, seed)``."""

from __future__ import annotations

from edgescope.models.cnn import CNN
from edgescope.models.encoder import Encoder
from edgescope.models.gpt import GPT
from edgescope.models.mlp import MLP
from edgescope.models.model import ModelConfig, parameter_count
from edgescope.models.resnet import ResNet
from edgescope.models.shallow import Shallow, ShallowNetwork
from edgescope.models.vit import ViT
from edgescope.registry import Registry

MODELS: Registry[ModelConfig] = Registry("model")
MODELS.add("mlp", MLP)
MODELS.add("cnn", CNN)
MODELS.add("resnet", ResNet)
MODELS.add("vit", ViT)
MODELS.add("gpt", GPT)
MODELS.add("shallow", Shallow)
MODELS.add("encoder", Encoder)

__all__ = [
    "CNN",
    "GPT",
    "MLP",
    "MODELS",
    "Encoder",
    "ModelConfig",
    "ResNet",
    "Shallow",
    "ShallowNetwork",
    "ViT",
    "parameter_count",
]
