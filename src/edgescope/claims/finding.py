"""What was found about a claim: the verdict, its cases, and what would decide an open one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from edgescope.bounded import read_bounded
from edgescope.claims.claim import Row
from edgescope.claims.region import CaseVerdict, Region
from edgescope.errors import InputError

Verdict = Literal["holds", "mixed", "fails", "open"]

LARGEST: Final = 2**26
"""Bytes of a findings.json at most."""


@dataclass(frozen=True)
class JudgedCase:
    """A case with its verdict. ``low`` and ``high`` are NaN where there is no interval."""

    case: str
    value: float
    low: float
    high: float
    verdict: CaseVerdict
    why: str = ""
    needs: str = ""
    factors: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Count:
    """How many cases hold, fail and are open."""

    holds: int
    fails: int
    open: int

    @property
    def decided(self) -> int:
        """How many cases hold or fail."""
        return self.holds + self.fails

    @property
    def all(self) -> int:
        """How many cases there are."""
        return self.decided + self.open


@dataclass(frozen=True)
class Finding:
    """What a study found about one claim; the fields that a claim has are explained at :class:`Claim`.

    ``expected`` is quantity, region and scope in one line; ``why`` says how the cases lead to the verdict; ``needs``
    what would decide an open one; ``pooled`` is the mean over cases with its interval, where the claim speaks of the
    average.

    Raises :class:`InputError` for an empty sentence, an unknown verdict, and two cases of one name.
    """

    id: str
    claim: str
    source: str
    expected: str
    verdict: Verdict
    why: str
    status: str = ""
    quantity: str = ""
    unit: str = ""
    region: Region | None = None
    origin: str = ""
    scope: str = "every"
    figure: str = ""
    how: str = ""
    needs: str = ""
    cases: tuple[JudgedCase, ...] = ()
    pooled: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if not self.claim.strip():
            raise InputError("a finding without a claim", expected="a sentence that can be true or false")
        if self.verdict not in get_args(Verdict):
            raise InputError(
                f"the verdict on '{self.claim}' is '{self.verdict}'", expected=f"one of {', '.join(get_args(Verdict))}"
            )
        names = [case.case for case in self.cases]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(
                f"two cases named '{twice[0]}' of claim '{self.id}'", expected="a name of its own for each"
            )

    @property
    def count(self) -> Count:
        """How many cases hold, fail and are open."""
        verdicts = [case.verdict for case in self.cases]
        return Count(*(verdicts.count(name) for name in ("holds", "fails", "open")))

    @property
    def measured(self) -> dict[str, float]:
        """The judged value of every case, by its name."""
        return {case.case: case.value for case in self.cases}

    def to_json(self) -> dict[str, Any]:
        """This finding as JSON values, with the keys that the documentation of studies lists.

        JSON has no NaN and no infinity. NaN, a figure that could not be measured, becomes ``null``; infinities become
        the strings ``"Infinity"`` and ``"-Infinity"``, which ``float`` in Python and ``Number`` in JavaScript read.
        """
        plain = {"id": self.id, "claim": self.claim, "source": self.source, "expected": self.expected}
        measured = {name: _to_json(value) for name, value in self.measured.items()}
        rest = {"measured": measured, "verdict": self.verdict, "why": self.why, "status": self.status}
        more: dict[str, Any] = {name: getattr(self, name) for name in _TEXTS}
        region = None if self.region is None else self.region.to_json()
        cases = [_case_to_json(case) for case in self.cases]
        pooled = None if self.pooled is None else [_to_json(number) for number in self.pooled]
        return plain | rest | more | {"region": region, "cases": cases, "pooled": pooled}

    @classmethod
    def from_json(cls, values: Any) -> Finding:
        """The finding that :meth:`to_json` gave; raises :class:`InputError` where ``values`` are not those of one."""
        needed = {"id", "claim", "source", "expected", "verdict", "why"}
        if not isinstance(values, dict) or not needed <= values.keys():
            raise InputError("an entry that is not a finding", expected=f"an object with {', '.join(sorted(needed))}")
        texts = {name: str(values.get(name, "")) for name in (*needed - {"verdict"}, "status", *_TEXTS)}
        region, pooled, cases = values.get("region"), values.get("pooled"), values.get("cases", [])
        if not isinstance(cases, list) or not (pooled is None or (isinstance(pooled, list) and len(pooled) == 3)):
            raise InputError(f"finding '{texts['id']}' without a list of cases", expected="what a study wrote")
        return cls(
            verdict=values["verdict"],
            region=None if region is None else Region.from_json(region),
            cases=tuple(map(_case_from_json, cases)),
            pooled=None if pooled is None else (_number(pooled[0]), _number(pooled[1]), _number(pooled[2])),
            **texts,
        )


_TEXTS = ("quantity", "unit", "origin", "scope", "figure", "how", "needs")


def dumps(findings: Iterable[Finding]) -> str:
    """The text of ``findings.json``: a list of objects, strict JSON (no NaN), in the order given."""
    return json.dumps([f.to_json() for f in findings], indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_findings(path: Path | str) -> list[Finding]:
    """The findings in a ``findings.json``; raises :class:`InputError` where the file is not one."""
    try:
        entries = json.loads(read_bounded(Path(path), LARGEST).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8", expected="a findings.json") from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error})", expected="a findings.json") from error
    if not isinstance(entries, list):
        raise InputError(f"{path} contains no list", expected="a list of findings")
    return [Finding.from_json(entry) for entry in entries]


_NUMBERS = ("value", "low", "high")


def _case_to_json(case: JudgedCase) -> dict[str, Any]:
    beside = [{"quantity": row.quantity, "unit": row.unit} | _numbers_of(row) for row in case.beside]
    texts = {"verdict": case.verdict, "why": case.why, "needs": case.needs}
    return {"case": case.case} | _numbers_of(case) | texts | {"factors": dict(case.factors), "beside": beside}


def _numbers_of(source: JudgedCase | Row) -> dict[str, Any]:
    return {name: _to_json(getattr(source, name)) for name in _NUMBERS}


def _case_from_json(values: Any) -> JudgedCase:
    if not isinstance(values, dict) or "case" not in values or values.get("verdict") not in get_args(CaseVerdict):
        raise InputError("an entry that is not a case", expected="an object with case, value and verdict")
    beside = values.get("beside") or []
    factors = values.get("factors") or {}
    if not isinstance(factors, dict) or not isinstance(beside, list) or not all(isinstance(r, dict) for r in beside):
        raise InputError(f"case '{values['case']}' with factors or rows of another kind", expected="what a study wrote")
    rows = [
        Row(
            quantity=str(row.get("quantity", "")),
            unit=str(row.get("unit", "")),
            **{name: _number(row.get(name)) for name in _NUMBERS},
        )
        for row in beside
    ]
    return JudgedCase(
        case=str(values["case"]),
        verdict=values["verdict"],
        why=str(values.get("why", "")),
        needs=str(values.get("needs", "")),
        factors={str(name): str(value) for name, value in factors.items()},
        beside=tuple(rows),
        **{name: _number(values.get(name)) for name in _NUMBERS},
    )


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or (isinstance(value, str) and value not in ("Infinity", "-Infinity")):
        raise InputError(f"{value!r} in place of a number", expected="a number, null, 'Infinity' or '-Infinity'")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{type(value).__name__} in place of a number", expected="a number") from error


def _to_json(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value
