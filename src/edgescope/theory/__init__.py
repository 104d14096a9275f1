"""Closed forms: diagonal and deep linear networks, their learning coefficients, flattest ReLU networks."""

import lazy_loader

# The names are in `__init__.pyi`. Each is loaded on first use, so that measures need not wait for Numba, which compiles
# gradient descent on diagonal networks.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
