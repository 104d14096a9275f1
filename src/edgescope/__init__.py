"""Edgescope: measures and explains neural-network training at the edge of stability."""

from importlib.metadata import version
from typing import Any

import lazy_loader

from edgescope.collector import collector_paused

# The names are in `__init__.pyi`. Each is loaded on first use, so that `edgescope --help` need not wait for torch.
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    with collector_paused():
        return _load(name)


__version__ = version("edgescope")
