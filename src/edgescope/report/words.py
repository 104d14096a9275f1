"""Counts and lists in words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup

from edgescope.claims import Finding, Verdict

SYMBOLS: dict[Verdict, str] = {"holds": "✓", "mixed": "±", "fails": "✗", "open": "?"}
"""Verdicts in the order in which they are told, each with the sign that stands beside the word."""

_ONE: dict[Verdict, str] = {"holds": "holds", "mixed": "is mixed", "fails": "fails", "open": "is open"}
_MANY: dict[Verdict, str] = {"holds": "hold", "mixed": "are mixed", "fails": "fail", "open": "are open"}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def verb(verdict: Verdict, count: int) -> str:
    """What ``count`` claims do: "holds", "are open"."""
    return (_ONE if count == 1 else _MANY)[verdict]


def in_words(count: int) -> str:
    """A number as it stands in a sentence: up to ten in letters."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def listed(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c". Markup stays markup."""
    if len(parts) < 2:
        return parts[0] if parts else ""
    comma, last = (Markup(", "), Markup(" and ")) if isinstance(parts[0], Markup) else (", ", " and ")
    return comma.join(parts[:-1]) + last + parts[-1]


def clause(sentence: str) -> str:
    """Sentences as part of another: semicolons between them, no full stop, small letters where words begin."""
    pieces = [piece for piece in re.split(r"\.\s+(?=[A-Z])", sentence.strip().rstrip(".").rstrip()) if piece]
    return "; ".join(p[0].lower() + p[1:] if p[1:2].islower() or p.startswith("A ") else p for p in pieces)


def count_of_cases(finding: Finding) -> str:
    """How the cases of a claim fell out: "7 of 9 cases hold, 1 fails, 1 is open"; "" where there are none, where
    they were not judged one by one, and where the reason of the verdict says so already."""
    count = finding.count
    if finding.region is None or re.search(r"\bcases?\b", finding.why):
        return ""
    if finding.scope == "average" and finding.pooled is not None:
        return f"mean over {cases(count.all)}"
    judged: tuple[Verdict, ...] = ("holds", "fails", "open")
    parts = [(n, verdict) for verdict in judged if (n := getattr(count, verdict))]
    if not parts:
        return ""
    if len(parts) == 1:
        number, verdict = parts[0]
        return {1: "the only case", 2: "both cases"}.get(number, f"all {number} cases") + f" {verb(verdict, number)}"
    (first, verdict), *rest = parts
    told = [f"{first} of {cases(count.all)} {verb(verdict, first)}", *(f"{n} {verb(v, n)}" for n, v in rest)]
    return ", ".join(told)


def short_count(finding: Finding) -> str:
    """The count in the width of a column: "7 of 9"; "" where no case was judged."""
    count = finding.count
    return f"{count.holds} of {count.all}" if count.all and finding.region is not None else ""


def cases(number: int) -> str:
    """ "1 case", "9 cases"."""
    return "1 case" if number == 1 else f"{number} cases"
