"""One claim, what was expected, what was measured, and the verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from edgescope.errors import InputError

Verdict = Literal["holds", "fails", "inconclusive"]


@dataclass(frozen=True)
class Finding:
    """What a study found about one claim.

    ``claim`` is a sentence that can be true or false; ``source`` is where it was made (authors, year, place);
    ``expected`` says what would have to be measured for the claim to hold; ``measured`` are the figures, by a name
    with its unit; ``why`` says in one or two sentences how the figures lead to the verdict. ``status`` is how certain
    the expected figure itself is ("from the paper", "derived and checked", "read off a figure"), where that matters.

    Raises :class:`InputError` for an empty claim, an unknown verdict or a measured value that is not a number.
    """

    claim: str
    source: str
    expected: str
    measured: dict[str, float]
    verdict: Verdict
    why: str
    status: str = ""

    def __post_init__(self) -> None:
        if not self.claim.strip():
            raise InputError("a finding without a claim", expected="a sentence that can be true or false")
        if self.verdict not in get_args(Verdict):
            raise InputError(
                f"the verdict on '{self.claim}' is '{self.verdict}'", expected=f"one of {', '.join(get_args(Verdict))}"
            )
        object.__setattr__(self, "measured", {name: self._figure(name, value) for name, value in self.measured.items()})

    def _figure(self, name: str, value: Any) -> float:
        try:
            return _number(value)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the figure '{name}' measured for '{self.claim}' is {value!r}", expected="a number"
            ) from error

    def to_json(self) -> dict[str, Any]:
        """This finding as JSON values: ``claim``, ``source``, ``expected``, ``measured``, ``verdict``, ``why``, and
        ``status`` where it is not empty.

        JSON has no NaN and no infinity. NaN, a figure that could not be measured, becomes ``null``; infinities become
        the strings ``"Infinity"`` and ``"-Infinity"``, which ``float`` in Python and ``Number`` in JavaScript read.
        """
        plain = {"claim": self.claim, "source": self.source, "expected": self.expected}
        measured = {name: _to_json(value) for name, value in self.measured.items()}
        rest = {"measured": measured, "verdict": self.verdict, "why": self.why}
        return plain | rest | ({"status": self.status} if self.status else {})

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Finding:
        """The finding that :meth:`to_json` gave; raises :class:`InputError` where ``values`` are not those of one."""
        needed = {"claim", "source", "expected", "measured", "verdict", "why"}
        if not isinstance(values, dict) or not needed <= values.keys() or not isinstance(values["measured"], dict):
            raise InputError("an entry that is not a finding", expected=f"an object with {', '.join(sorted(needed))}")
        measured = {name: math.nan if value is None else value for name, value in values["measured"].items()}
        texts = {key: str(values[key]) for key in ("claim", "source", "expected", "why")}
        return cls(measured=measured, verdict=values["verdict"], status=str(values.get("status", "")), **texts)


def judge(holds: bool, *figures: float) -> Verdict:
    """``holds`` or ``fails`` as ``holds`` says, but ``inconclusive`` where one of ``figures`` is NaN.

    A comparison with NaN is false, so a figure that was never measured would otherwise read as a failed claim.
    """
    if any(math.isnan(figure) for figure in figures):
        return "inconclusive"
    return "holds" if holds else "fails"


def dumps(findings: Iterable[Finding]) -> str:
    """The text of ``findings.json``: a list of objects, strict JSON (no NaN), in the order given."""
    return json.dumps([f.to_json() for f in findings], indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_findings(path: Path | str) -> list[Finding]:
    """The findings in a ``findings.json``; raises :class:`InputError` where the file is not one."""
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error})", expected="a findings.json") from error
    if not isinstance(entries, list):
        raise InputError(f"{path} holds no list", expected="a list of findings")
    return [Finding.from_json(entry) for entry in entries]


def _number(value: Any) -> float:
    if isinstance(value, str) and value not in ("Infinity", "-Infinity"):
        raise ValueError(value)
    number = float(value)
    return int(number) if isinstance(value, int) and not isinstance(value, bool) else number


def _to_json(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value
