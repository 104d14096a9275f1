"""The optimizers of a run in words, from what its record says of them."""

from __future__ import annotations

import math
from typing import Any, Final

from edgescope.report.numbers import number

MOST_GROUPS: Final = 6
"""Parameter groups whose options are written out."""


def optimizer_text(described: Any) -> str | None:
    """Such as "AdamW (betas 0.9 and 0.999; weight_decay 0.01 in group 0, 0 in group 1)"; None where nothing is known.

    The learning rate is named only where groups or optimizers have different ones; options that are 0 or false in all
    groups are left out.
    """
    known = _checked(described)
    if not known:
        return None
    rates = _rates(known)
    return " and ".join(_text(one, with_rate=len(set(rates)) > 1) for one in known)


def rate_of(described: Any) -> float | None:
    """The learning rate of all groups of all optimizers; None where they differ, or have none.

    It is the one that a schedule starts from or warms up to, where there is a schedule; else that of the first step.
    """
    rates = _rates(_checked(described))
    return rates[0] if rates and len(set(rates)) == 1 and math.isfinite(rates[0]) else None


def group_names(described: Any) -> list[str]:
    """Names of the parameter groups of all optimizers, in the order of the measure ``learning_rate``."""
    known = _checked(described)
    several = len(known) > 1
    names = []
    for one in known:
        for place in range(len(one["groups"])):
            group = f"group {place}" if len(one["groups"]) > 1 or not several else ""
            names.append(", ".join(filter(None, (one["name"] if several else "", group))))
    twice = {name for name in names if names.count(name) > 1}
    return [f"{name} ({place})" if name in twice else name for place, name in enumerate(names)]


def _checked(described: Any) -> list[dict[str, Any]]:
    """The optimizers of which a record says something that can be read."""
    known = described if isinstance(described, list) else []
    return [
        one
        for one in known
        if isinstance(one, dict)
        and isinstance(one.get("name"), str)
        and isinstance(one.get("groups"), list)
        and one["groups"]
        and all(isinstance(group, dict) for group in one["groups"])
    ]


def _rates(known: list[dict[str, Any]]) -> list[float]:
    found = [group.get("initial_lr", group.get("lr")) for one in known for group in one["groups"]]
    return [float(rate) for rate in found if isinstance(rate, int | float)] if None not in found else []


def _text(one: dict[str, Any], with_rate: bool) -> str:
    groups = one["groups"]
    names = dict.fromkeys(name for group in groups for name in group if name not in ("parameters", "initial_lr"))
    words = [f"around {one['base']}"] if isinstance(one.get("base"), str) else []
    for name in names:
        values = [group.get(name) for group in groups]
        if (name == "lr" and not with_rate) or not any(values):
            continue
        if all(value == values[0] for value in values):
            words.append(name if values[0] is True else f"{name} {_value(values[0])}")
            continue
        shown = [f"{_value(value)} in group {place}" for place, value in enumerate(values[:MOST_GROUPS])]
        words.append(f"{name} {', '.join(shown)}" + (", ..." if len(values) > MOST_GROUPS else ""))
    return f"{one['name']} ({'; '.join(words)})" if words else one["name"]


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " and ".join(map(_value, value))
    return number(value) if isinstance(value, int | float) else str(value)
