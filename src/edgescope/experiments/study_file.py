"""Which study a folder holds: its file ``study.json``, read with care."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from edgescope.description import STUDY, read_description
from edgescope.errors import RecordError
from edgescope.experiments.preset import Preset
from edgescope.options import HIGHEST

HIGHEST_SEED = HIGHEST // 2
"""The largest seed of a study; its runs count on from there."""


def describe(folder: Path) -> dict[str, Any] | None:
    """What study a folder holds, None if none.

    Raises :class:`RecordError` where it says so in a file that is damaged, or with values of other types.
    """
    path = Path(folder) / STUDY
    found = read_description(path)
    return _checked(found, path) if found is not None and "study" in found else None


def _checked(description: dict[str, Any], path: Path) -> dict[str, Any]:
    """A description of a study whose parts are of the types that they are written with."""
    wrong = f"{path} is not that of a study"
    if type(description["study"]) is not str:
        raise RecordError(f"{wrong}: study is {_kind(description['study'])}", expected="a study's name, with options")
    if description.get("preset", "quick") not in get_args(Preset):
        expected = f"one of {', '.join(get_args(Preset))}"
        raise RecordError(f"{wrong}: preset is {_kind(description['preset'])}", expected=expected)
    seed = description.get("seed", 0)
    if type(seed) is not int or not 0 <= seed <= HIGHEST_SEED:
        raise RecordError(f"{wrong}: seed is {_kind(seed)}", expected=f"a whole number from 0 to {HIGHEST_SEED}")
    return description


def _kind(value: Any) -> str:
    """A value of a JSON file for an error: itself where it is short, else what it is."""
    kinds = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number"}
    text = repr(value) if type(value) in (str, float, bool, type(None)) else ""
    if type(value) is int and abs(value) < 10**20:
        text = str(value)
    return text if 0 < len(text) <= 40 else kinds[type(value)]
