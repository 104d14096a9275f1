"""Charts: from tables to a picture, nothing else. Every function takes a polars table and gives an Altair chart."""

from __future__ import annotations

import lazy_loader

from edgescope.extras import require

require("figures", "figures need", "altair", "polars", "vl_convert")

# The names are in `__init__.pyi`. Each is loaded on first use, so that what lists or runs studies need not wait for
# Altair.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
