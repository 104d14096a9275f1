"""Findings: what they accept, and findings.json as its readers need it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgescope.errors import InputError
from edgescope.report import Finding, judge, read_findings
from edgescope.report.finding import dumps


def finding(**changes: Any) -> Finding:
    values: dict[str, Any] = {
        "claim": "Sharpness settles at 2/η",
        "source": "Cohen et al. (2021)",
        "expected": "median ratio within 10% of 1",
        "measured": {"ratio": 1.01},
        "verdict": "holds",
        "why": "It does.",
    }
    return Finding(**values | changes)


def test_json_is_a_list_of_objects_with_the_promised_keys() -> None:
    (entry,) = json.loads(dumps([finding()]))
    assert entry == {
        "claim": "Sharpness settles at 2/η",
        "source": "Cohen et al. (2021)",
        "expected": "median ratio within 10% of 1",
        "measured": {"ratio": 1.01},
        "verdict": "holds",
        "why": "It does.",
    }
    assert json.loads(dumps([finding(status="recalled")]))[0]["status"] == "recalled"


@given(
    st.dictionaries(st.text(max_size=5), st.floats() | st.integers(-(10**12), 10**12), max_size=4),
    st.sampled_from(["holds", "fails", "inconclusive"]),
    st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_what_is_written_is_strict_json_and_reads_back(measured: dict[str, float], verdict: str, why: str) -> None:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    before = finding(measured=measured, verdict=verdict, why=why)
    (entry,) = json.loads(dumps([before]), parse_constant=no_constant)
    after = Finding.from_json(entry)
    assert (after.verdict, after.why, list(after.measured)) == (verdict, why, list(measured))
    for name, value in measured.items():
        assert after.measured[name] == value or (math.isnan(value) and math.isnan(after.measured[name]))


def test_what_json_cannot_say() -> None:
    (entry,) = json.loads(dumps([finding(measured={"a": math.nan, "b": math.inf, "c": -math.inf})]))
    assert entry["measured"] == {"a": None, "b": "Infinity", "c": "-Infinity"}


def test_array_scalars_become_plain_numbers_and_the_callers_dict_stays_as_it_was() -> None:
    given_figures = {"a": np.float32(0.5), "b": np.int64(3)}
    made = finding(measured=given_figures)
    assert {type(value) for value in made.measured.values()} == {float}
    assert type(given_figures["a"]) is np.float32
    assert json.loads(dumps([made]))[0]["measured"] == {"a": 0.5, "b": 3}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"claim": "  "}, "without a claim"),
        ({"verdict": "true"}, "verdict .* is 'true'"),
        ({"measured": {"ratio": "large"}}, "'ratio'"),
        ({"measured": {"ratio": None}}, "'ratio'"),
        ({"measured": {"ratio": [1.0]}}, "'ratio'"),
    ],
)
def test_findings_that_are_none(changes: dict[str, Any], names: str) -> None:
    with pytest.raises(InputError, match=names) as caught:
        finding(**changes)
    assert "\n" not in str(caught.value)


def test_a_figure_that_was_not_measured_decides_nothing() -> None:
    assert judge(1.0 < 2.0, 1.0, 2.0) == "holds"
    assert judge(math.inf < 2.0, math.inf) == "fails"
    assert judge(math.nan < 2.0, math.nan) == "inconclusive"
    assert judge(True) == "holds"


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (None, "cannot read"),
        ("[{", "not JSON"),
        ("{}", "no list"),
        ('[{"claim": "x"}]', "not a finding"),
        ("[3]", "not a f"),
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
    several = [finding(), finding(verdict="fails", measured={}), finding(status="recalled")]
    (tmp_path / "findings.json").write_text(dumps(several), encoding="utf-8")
    assert read_findings(tmp_path / "findings.json") == several
