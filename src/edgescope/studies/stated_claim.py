"""The claims of a study as its file ``claims.toml`` states them: sentences, sources, regions, and their origins."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from importlib import resources
from typing import Any, Final, TypeVar

from edgescope.claims import Answer, Claim, Region
from edgescope.errors import InputError
from edgescope.experiments.selection import CaseSelection
from edgescope.near_names import suggestion
from edgescope.studies.tested_claim import TestedClaim

T = TypeVar("T")

FILE: Final = "claims.toml"
KEYS: Final = {field.name for field in fields(Claim)} - {"id"}
NEEDED: Final = ("sentence", "source", "quantity", "region", "origin")
"""The keys that a claim cannot do without."""


def stated_claim(id: str, *, each: CaseSelection[T]) -> Callable[[Callable[[T], Answer]], TestedClaim[T]]:
    """Make a claim of a function that measures one case; what is claimed stands in the study's ``claims.toml``.

    ``id`` is the study's name, a dot, and the name of the claim's table in that file. ``each`` and the function are as
    for :func:`edgescope.studies.tested_claim.claim`.
    """
    study, _, name = id.partition(".")
    known = read_claims(study)
    if name not in known:
        raise InputError(f"{FILE} of the study '{study}' states no claim '{name}'", hint=suggestion(name, known))

    def decorate(measure: Callable[[T], Answer]) -> TestedClaim[T]:
        return TestedClaim(known[name], each, measure)

    return decorate


@functools.cache
def read_claims(study: str) -> dict[str, Claim]:
    """The claims that the file of a study states, by the second part of their ids, in its order."""
    text = resources.files("edgescope.studies").joinpath(study, FILE).read_text(encoding="utf-8")
    return claims_of(study, text)


def claims_of(study: str, text: str) -> dict[str, Claim]:
    """The claims that a text in TOML states: one table a claim, its keys those of :class:`edgescope.claims.Claim`.

    ``region`` is a list of the lower and the upper border; ``inf`` and ``-inf`` are written as such. ``like`` names a
    claim above whose values count where a table gives none. Raises :class:`InputError` for a key that is none or that
    lacks, a region of another form, and a ``like`` without such a claim.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, table in tomllib.loads(text).items():
        found[name] = _resolved(f"{study}.{name}", table, found)
    return {name: Claim(f"{study}.{name}", **table) for name, table in found.items()}


def _resolved(id: str, table: dict[str, Any], above: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    own = dict(table)
    like = own.pop("like", None)
    if like is not None and like not in above:
        raise InputError(
            f"claim '{id}' is like '{like}'", expected="the name of a claim above it", hint=suggestion(like, above)
        )
    if wrong := sorted(own.keys() - KEYS):
        raise InputError(
            f"claim '{id}' has the key '{wrong[0]}'",
            expected=f"one of {', '.join(sorted(KEYS))}",
            hint=suggestion(wrong[0], KEYS),
        )
    if "region" in own:
        own["region"] = _region(id, own["region"])
    whole = dict(above[like] if like else {}) | own
    if missing := [key for key in NEEDED if key not in whole]:
        raise InputError(f"claim '{id}' has no {missing[0]}", expected=", ".join(NEEDED))
    return whole


def _region(id: str, borders: object) -> Region:
    if not isinstance(borders, list) or len(borders) != 2 or not all(type(end) in (int, float) for end in borders):
        raise InputError(f"claim '{id}' has the region {borders}", expected="a list of two numbers, low and high")
    return Region(*borders)
