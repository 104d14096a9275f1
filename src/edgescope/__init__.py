"""Edgescope: measures and explains neural-network training at the edge of stability."""

from importlib.metadata import version

import lazy_loader

# The names are in `__init__.pyi`. Each is loaded on first use, so that `edgescope --help` need not wait for torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = version("edgescope")
