"""The known name that a misspelled one most resembles, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

CUTOFF: Final = 0.5
"""Similarity, from 0 to 1 as in :func:`difflib.get_close_matches`, below which nothing is suggested."""

COMPARED: Final = 60
"""Characters of a name that are compared: the comparison takes time quadratic in their number."""


def nearest(name: object, known: Iterable[object]) -> str | None:
    """The one of the ``known`` names that is most similar to ``name``; None where none is similar."""
    found = difflib.get_close_matches(str(name)[:COMPARED], [str(word) for word in known], n=1, cutoff=CUTOFF)
    return found[0] if found else None


def suggestion(name: object, known: Iterable[object]) -> str | None:
    """The nearest of the ``known`` names in quotation marks, as the ``hint`` of an error; None where none is near."""
    found = nearest(name, known)
    return None if found is None else f"'{found}'"
