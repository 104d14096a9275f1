"""Whether the best learning rate of a sweep is the same at several widths of a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from edgescope.errors import InputError
from edgescope.extras import Optional
from edgescope.models import MODELS
from edgescope.training.best_rate import BestRate, Criterion, best_rate
from edgescope.training.own import arguments_of

if TYPE_CHECKING:
    import polars as pl
else:
    pl = Optional("polars")

WIDTH_OPTIONS: Final = ("width", "widths")
"""Options of models by name that set their width: a number, or one for each layer."""


@dataclass(frozen=True)
class WidthTransfer:
    """The best learning rate at each width, in the order of widths; None where no learning rate counts.

    ``low`` and ``high`` are the smallest and the largest rate that lies in the intervals of all widths; None if there
    is none.
    """

    best: Mapping[int, BestRate | None]
    low: float | None
    high: float | None

    @property
    def transfers(self) -> bool | None:
        """Whether the intervals of all widths have a learning rate in common; None if a width has no best rate."""
        return None if None in self.best.values() else self.low is not None

    @classmethod
    def of(cls, table: pl.DataFrame, criterion: Criterion) -> WidthTransfer:
        """From a table of :func:`~edgescope.training.best_rate.best_rate` with a column ``width``. No cost."""
        widths = sorted(table["width"].unique().to_list())
        best = {width: best_rate(table.filter(pl.col("width") == width), criterion) for width in widths}
        found = [one for one in best.values() if one is not None]
        low, high = max((one.low for one in found), default=1.0), min((one.high for one in found), default=0.0)
        common = len(found) == len(best) and low <= high
        return cls(best, low if common else None, high if common else None)


def at_width(model: str, function: str | None, width: int) -> dict[str, Any]:
    """The option of a run that gives its network this width: ``model``, or ``function`` where there is one.

    A function is called with the argument ``width``. A model by name has an option ``width``, or ``widths``, of which
    every layer gets this one. Raises :class:`InputError` for other models.
    """
    if function is not None:
        if "width" in arguments_of(function):
            raise InputError(f"several widths of the function '{function}'", expected="one without the argument width")
        return {"function": f"{function}{',' if function.count(':') > 1 else ':'}width={width}"}
    name, options = MODELS.parse(model)
    field, layers = _width_option(name, options)
    kept = [piece for piece in model.partition(":")[2].split(",") if piece.strip()]
    fields = list(_defaults(name))
    if kept and "=" not in kept[0]:
        kept[0] = f"{fields[0]}={kept[0]}"
    kept = [piece for piece in kept if piece.partition("=")[0].strip() != field]
    widths = "x".join([str(width)] * layers)
    return {"model": ",".join([f"{name}:{field}={widths}", *kept])}


def width_of(config: Mapping[str, Any]) -> int | None:
    """The width that the configuration of a run gives its network; None where it has none, or several."""
    if config.get("function"):
        found = arguments_of(config["function"]).get("width")
        return found if isinstance(found, int) else None
    try:
        name, options = MODELS.parse(config["model"])
        field, _ = _width_option(name, options)
    except InputError:
        return None
    widths = options.get(field, _defaults(name)[field])
    every: set[int] = set(widths) if isinstance(widths, tuple) else {widths}
    return every.pop() if len(every) == 1 else None


def _defaults(name: str) -> dict[str, Any]:
    """The options of a model by name with their default values."""
    model: Any = MODELS[name]
    return {one.name: one.default for one in dataclasses.fields(model)} if dataclasses.is_dataclass(model) else {}


def _width_option(name: str, options: Mapping[str, Any]) -> tuple[str, int]:
    """The option that sets the width of a model, and how many layers it is for."""
    known = _defaults(name)
    field = next((option for option in WIDTH_OPTIONS if option in known), None)
    if field is None:
        raise InputError(
            f"several widths of the model '{name}'",
            expected="a model with the option width or widths, or a function with the argument width",
        )
    value = options.get(field, known[field])
    layers = len(value) if isinstance(value, tuple) else 1
    if not layers:
        raise InputError(f"several widths of a model '{name}' without layers", expected="at least one layer")
    return field, layers
