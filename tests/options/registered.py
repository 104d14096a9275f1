"""Every option of every class that is known by name, and the values of its type that may mean nothing."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Any

from edgescope.data import DATA
from edgescope.geometry import GEOMETRIES
from edgescope.losses import LOSSES
from edgescope.measures import MEASURES
from edgescope.models import MODELS
from edgescope.optim import OPTIMIZERS
from edgescope.registry import Registry
from edgescope.studies import STUDIES
from edgescope.training import SETUPS
from edgescope.training.schedules import SCHEDULES

REGISTRIES: tuple[Registry[Any], ...] = (
    MEASURES,
    OPTIMIZERS,
    MODELS,
    DATA,
    LOSSES,
    GEOMETRIES,
    SCHEDULES,
    SETUPS,
    STUDIES,
)

NEEDED = {("data set", "text"): {"path": "notes.txt"}}
"""Options without which a thing cannot be made."""

WHOLE = (-1, 0, 10**26, 2.5, math.nan, True, "3", [1], 10**5000)
REAL = (-1.0, 0.0, math.nan, math.inf, -math.inf, 1e308, 1e-320, 10**400, True, "0.1", [0.1])
TRUTH = (1, 0, "true", 0.5)
WORDS = ("", "nonsense", "a\0b", 3, math.nan, True, ["mlp"])


@dataclass(frozen=True)
class Option:
    """A field of a registered class."""

    kind: str
    name: str
    field: str
    hint: Any

    def __str__(self) -> str:
        return f"{self.kind.replace(' ', '-')}-{self.name}-{self.field}"

    def values(self) -> list[Any]:
        """What is tried: meaningless for the type, or for some options of the type."""
        return _values(self.hint)

    def made_with(self, value: Any) -> Any:
        """The thing with this option, the others at their defaults."""
        needed = NEEDED.get((self.kind, self.name), {})
        return _registry(self.kind)[self.name](**needed | {self.field: value})


def options() -> list[Option]:
    """All there are."""
    found = []
    for registry in REGISTRIES:
        for name in registry:
            hints = typing.get_type_hints(registry[name])
            fields = [field.name for field in dataclasses.fields(registry[name]) if field.init]
            found += [Option(registry.kind, name, field, hints[field]) for field in fields]
    return found


def _registry(kind: str) -> Registry[Any]:
    return next(registry for registry in REGISTRIES if registry.kind == kind)


def _values(hint: Any) -> list[Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [kind for kind in arguments if kind is not type(None)]
        return [None, *_values(kinds[-1])]
    if origin is tuple:
        return ["x", 3, None, (), *((value,) for value in _values(arguments[0])), (1,) * 1001]
    if origin is typing.Literal:
        return [*WORDS, None]
    return [*{int: WHOLE, float: REAL, bool: TRUTH, str: WORDS}[hint], None]
