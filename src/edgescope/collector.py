"""Loading of modules without searches of Python's garbage collector, which would look at all objects of torch."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector, for the import of modules.

    Modules make many objects and free almost none, so that the collector searches in vain. Once torch is loaded, a
    search through everything takes as long as loading this package; it takes a fifth of the time of loading torch. A
    collector that was switched off before stays off.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
