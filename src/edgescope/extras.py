"""Packages that only a part of the library needs: what is missing is named in one line, with the command that adds it.

The core (objectives, measures, monitors, records) needs none of them.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from edgescope.errors import MissingExtraError

EXTRA_OF: Final = {
    "altair": "figures",
    "dask": "cluster",
    "distributed": "cluster",
    "jinja2": "figures",
    "joblib": "studies",
    "lightning": "lightning",
    "markupsafe": "figures",
    "mlflow": "mlflow",
    "numba": "studies",
    "polars": "tables",
    "pooch": "studies",
    "rich": "cli",
    "sklearn": "studies",
    "starlette": "board",
    "tensorboard": "trackers",
    "threadpoolctl": "cluster",
    "trackio": "trackio",
    "transformers": "transformers",
    "tyro": "cli",
    "uvicorn": "board",
    "vl_convert": "figures",
    "wandb": "wandb",
}
"""The extra of each package, by the name that it is imported under."""


def require(extra: str, needs: str, *modules: str) -> None:
    """Raise :class:`MissingExtraError` where one of the ``modules`` is not installed; nothing is imported.

    ``extra`` brings them all; ``needs`` begins the message, such as "figures need".
    """
    for module in modules:
        if not installed(module):
            raise missing(module, needs, extra)


def installed(module: str) -> bool:
    """Whether a module can be imported, as far as that is known without importing it."""
    if module in sys.modules:
        return sys.modules[module] is not None  # None: importing it has been forbidden
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def missing(module: str, needs: str = "this needs", extra: str | None = None) -> MissingExtraError:
    """The error that a module is not installed, and the commands that install it, for users and in a checkout."""
    package = module.partition(".")[0]
    extra = EXTRA_OF[package] if extra is None else extra
    return MissingExtraError(
        f"{needs} the package {package}, which is not installed",
        hint=f"pip install 'edgescope[{extra}]', or in a checkout pip install -e '.[{extra}]'",
    )


class Optional:
    """Stands for a module that may not be installed: imported when an attribute is first used.

    ``pl = Optional("polars")`` at the top of a file, and ``pl.DataFrame`` below, raise :class:`MissingExtraError` where
    polars is used without being there, and cost nothing before.
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(load(self._module), name)


def load(module: str) -> ModuleType:
    """Import a module that may not be installed; :class:`MissingExtraError` where it is not."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or module).partition(".")[0] != module.partition(".")[0]:
            raise  # installed, but lacks something of its own
        raise missing(module) from error


def compiled(**options: Any) -> Callable[[Any], Any]:
    """``numba.njit`` with these options; without Numba a function that says so when it is called."""

    def decorate(function: Callable[..., Any]) -> Any:
        if installed("numba"):
            return load("numba").njit(**options)(function)

        def call(*arguments: Any) -> Any:
            raise missing("numba", "compiled simulations need")

        return call

    return decorate
