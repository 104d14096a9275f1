"""Edgescope: measures and explains neural-network training at the edge of stability."""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {
    "data": ("DATA", "Dataset"),
    "geometry": ("GEOMETRIES", "directional_smoothness"),
    "linalg": ("EigenTracker", "Eigenpairs", "Operator", "spectrum", "top_eigenpairs", "trace"),
    "losses": ("LOSSES", "supervised"),
    "measures": ("MEASURES", "Measure", "Moment", "Reading"),
    "models": ("MODELS",),
    "monitor": ("Monitor",),
    "objective": ("Objective",),
    "optim": ("OPTIMIZERS", "rule_for"),
    "store": ("Record",),
    "training": ("RunConfig", "train"),
}
_MODULES = ("cost", "data", "errors", "geometry", "linalg", "losses", "measures", "models", "monitor", "optim", "store")
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str) -> Any:
    # On first use, so that `edgescope --help` need not wait for torch.
    if name in _HOME:
        value = getattr(importlib.import_module(f"edgescope.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"edgescope.{name}")
    else:
        raise AttributeError(f"module 'edgescope' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
