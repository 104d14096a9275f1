"""Tags of a run: short names and values, such as its method and network, for selecting runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from edgescope.errors import InputError
from edgescope.options import shown

TAGS: Final = "tags"
"""The key of a record's ``info`` that holds them."""


def check_tags(tags: Mapping[str, str] | None) -> dict[str, str]:
    """The tags as a dict; :class:`InputError` unless every name and every value is text. None is no tags."""
    if tags is None:
        return {}
    if not isinstance(tags, Mapping) or not all(isinstance(part, str) for pair in tags.items() for part in pair):
        raise InputError(f"tags = {shown(tags)}", expected='a dict of text, such as {"method": "gd", "seed": "0"}')
    return dict(tags)


def with_tags(info: dict[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
    """The info of a new record, with its tags if it has any."""
    return info | ({TAGS: dict(tags)} if tags else {})
