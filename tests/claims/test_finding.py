"""Findings: what they accept, and findings.json as its readers need it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgescope.claims import Finding, JudgedCase, Region, Row, dumps, read_findings
from edgescope.errors import InputError


def finding(**changes: Any) -> Finding:
    values: dict[str, Any] = {
        "id": "edge.settles",
        "claim": "Sharpness settles at 2/η",
        "source": "Cohen et al. (2021)",
        "expected": "median ratio within 10% of 1",
        "verdict": "holds",
        "why": "It does.",
        "cases": (JudgedCase("GD", 1.01, 0.99, 1.03, "holds"),),
    }
    return Finding(**values | changes)


def test_json_has_the_keys_of_the_first_version_and_the_new_ones() -> None:
    (entry,) = json.loads(dumps([finding(region=Region(0.9, 1.1), needs="more seeds", figure="settled")]))
    first = {
        "claim": "Sharpness settles at 2/η",
        "source": "Cohen et al. (2021)",
        "expected": "median ratio within 10% of 1",
        "measured": {"GD": 1.01},
        "verdict": "holds",
        "why": "It does.",
    }
    assert first.items() <= entry.items()
    assert (entry["id"], entry["scope"], entry["figure"]) == ("edge.settles", "every", "settled")
    assert entry["region"] == {"low": 0.9, "high": 1.1}
    assert entry["needs"] == "more seeds"
    (case,) = entry["cases"]
    assert {
        "case": "GD",
        "value": 1.01,
        "low": 0.99,
        "high": 1.03,
        "verdict": "holds",
        "why": "",
    }.items() <= case.items()


numbers = st.floats(width=64)
texts = st.text(st.characters(codec="utf-8"), max_size=8)
rows = st.builds(Row, quantity=texts, value=numbers, low=numbers, high=numbers, unit=texts)
cases = st.builds(
    JudgedCase,
    case=texts,
    value=numbers,
    low=numbers,
    high=numbers,
    verdict=st.sampled_from(["holds", "fails", "open"]),
    why=texts,
    needs=texts,
    factors=st.dictionaries(texts, texts, max_size=2),
    beside=st.lists(rows, max_size=2).map(tuple),
)


@given(
    st.lists(cases, max_size=3, unique_by=lambda case: case.case),
    st.sampled_from(["holds", "mixed", "fails", "open"]),
    st.sampled_from([None, Region(0), Region(high=3), Region(-1, 1)]),
    st.none() | st.tuples(numbers, numbers, numbers),
    texts,
)
def test_what_is_written_is_strict_json_and_reads_back(
    several: list[JudgedCase], verdict: str, region: Region | None, pooled: Any, text: str
) -> None:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    before = finding(cases=tuple(several), verdict=verdict, region=region, pooled=pooled, why=text, needs=text)
    (entry,) = json.loads(dumps([before]), parse_constant=no_constant)
    assert repr(Finding.from_json(entry)) == repr(before)  # NaN is not equal to itself, but written alike


def test_what_json_cannot_say() -> None:
    values = {"a": math.nan, "b": math.inf, "c": -math.inf}
    found = finding(cases=tuple(JudgedCase(name, value, value, value, "open") for name, value in values.items()))
    (entry,) = json.loads(dumps([found]))
    assert entry["measured"] == {"a": None, "b": "Infinity", "c": "-Infinity"}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"claim": "  "}, "without a claim"),
        ({"verdict": "true"}, "verdict .* is 'true'"),
        ({"verdict": "inconclusive"}, "verdict .* is 'inconclusive'"),
        ({"cases": (JudgedCase("a", 1, 1, 1, "open"), JudgedCase("a", 2, 2, 2, "open"))}, "two cases named 'a'"),
    ],
)
def test_findings_that_are_none(changes: dict[str, Any], names: str) -> None:
    with pytest.raises(InputError, match=names) as caught:
        finding(**changes)
    assert "\n" not in str(caught.value)


WHOLE = '"id": "a.b", "claim": "x", "source": "x", "expected": "x", "verdict": "holds", "why": "x"'


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (None, "cannot read"),
        ("[{", "not JSON"),
        ("{}", "no list"),
        ('[{"claim": "x"}]', "not a finding"),
        ("[3]", "not a f"),
        (f'[{{{WHOLE}, "cases": 3}}]', "without a list of cases"),
        (f'[{{{WHOLE}, "cases": [3]}}]', "not a case"),
        (f'[{{{WHOLE}, "cases": [{{"case": "a", "verdict": "holds", "value": "large"}}]}}]', "in place of a number"),
        (f'[{{{WHOLE}, "cases": [{{"case": "a", "verdict": "holds", "beside": [1]}}]}}]', "of another kind"),
        (f'[{{{WHOLE}, "region": {{"low": 2, "high": 1}}}}]', "a region from 2 to 1"),
        (f'[{{{WHOLE}, "region": 3}}]', "not an object"),
    ],
)
def test_files_that_hold_no_findings(tmp_path: Path, content: str | None, names: str) -> None:
    path = tmp_path / "findings.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=names) as caught:
        read_findings(path)
    assert "\n" not in str(caught.value)


def test_a_file_reads_back(tmp_path: Path) -> None:
    several = [finding(), finding(verdict="fails", cases=()), finding(status="second hand")]
    (tmp_path / "findings.json").write_text(dumps(several), encoding="utf-8")
    assert read_findings(tmp_path / "findings.json") == several
