"""A claim, the cases that it is judged on, and what was measured of each."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from edgescope.claims.region import Region
from edgescope.errors import InputError
from edgescope.statistics.estimate import UNKNOWN, Estimate

Scope = Literal["every", "some", "average"]
Status = Literal["from the paper", "second hand", "derived", "ours"]


@dataclass(frozen=True)
class Claim:
    """A statement that can be true or false of what is measured.

    Args:
        id: the study's name, a dot, and words that tell the claim apart: ``edge.gd-settles``.
        sentence: the statement, as its source qualifies it.
        source: authors, year, place.
        quantity: the one number that is measured of each case, with its symbol.
        region: the values for which the sentence is true of a case.
        origin: where the region comes from: the paper, a derivation, or our choice and its reason.
        status: how well the statement is known: read in the paper, second hand, derived here, or made by us.
        unit: of the quantity; empty for a pure number.
        scope: whether the sentence speaks of ``every`` case, of ``some`` case (existence), or of the ``average``.
        names_cases: the sentence names its cases, so that one that fails refutes it.
        figure: the name of the figure that shows it.
        how: how the quantity is measured, and what a reader has to know of it.

    Raises :class:`InputError` for an id of another form, and for an empty sentence, source, quantity or origin.
    """

    id: str
    sentence: str
    source: str
    quantity: str
    region: Region
    origin: str
    status: Status = "from the paper"
    unit: str = ""
    scope: Scope = "every"
    names_cases: bool = False
    figure: str = ""
    how: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", self.id):
            raise InputError(f"a claim with the id '{self.id}'", expected="lower-case words, as in 'edge.gd-settles'")
        for name in ("sentence", "source", "quantity", "origin"):
            if not getattr(self, name).strip():
                raise InputError(f"claim '{self.id}' has no {name}", expected=f"a {name}")
        for name, known in (("scope", get_args(Scope)), ("status", get_args(Status))):
            if getattr(self, name) not in known:
                raise InputError(
                    f"claim '{self.id}' has the {name} '{getattr(self, name)}'", expected=f"one of {', '.join(known)}"
                )

    @property
    def expected(self) -> str:
        """Quantity, region and scope in one line."""
        unit = f" {self.unit}" if self.unit else ""
        of = {"every": "in every case", "some": "in at least one case", "average": "on average over the cases"}
        return f"{self.quantity}: {self.region.text()}{unit}, {of[self.scope]}"


@dataclass(frozen=True)
class Row:
    """A quantity given beside the judged one, with its 95% interval if there is one."""

    quantity: str
    value: float
    low: float = math.nan
    high: float = math.nan
    unit: str = ""

    @classmethod
    def of(cls, quantity: str, value: float | Estimate, unit: str = "") -> Row:
        """A row of a number or of an estimate."""
        if isinstance(value, Estimate):
            return cls(quantity, value.value, value.low, value.high, unit)
        return cls(quantity, float(value), unit=unit)


@dataclass(frozen=True)
class Case:
    """One thing that a claim was measured on: a run, a network, a seed, a draw.

    ``factors`` tell cases apart (method, network, loss, seed). ``why`` says why there is no estimate, or what to know
    of it; ``needs`` what would decide the case where it stays open. ``beside`` are quantities given and not judged.
    """

    name: str
    estimate: Estimate = UNKNOWN
    why: str = ""
    needs: str = ""
    factors: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[Row, ...] = ()
