"""The scripts of a page: JSON that no text can end, hashes, and a bundle that fits into a script element."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from edgescope.report.scripts import as_json, content_policy, page_script, vega_bundle

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>",
    "a\u2028b\u2029c",
    "& &lt; ' \" \\",
    "</SCRIPT ",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_ends_the_element(text: str) -> None:
    written = as_json({text: [text]})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == {text: [text]}


@given(st.recursive(st.none() | st.floats(allow_nan=False) | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_what_is_read_is_what_was_written(value: object) -> None:
    assert json.loads(as_json(value)) == value


def test_scripts_fit_into_their_elements() -> None:
    for script in (vega_bundle(), page_script()):
        assert "</script" not in script.lower()
        assert "<!--" not in script
    assert "vegaEmbed" in vega_bundle()
    assert len(vega_bundle()) < 1_000_000


def test_no_script_evaluates_text() -> None:
    assert not [word for word in ("eval(", "innerHTML", "document.write", "fetch(") if word in page_script()]


def test_the_policy_names_scripts_by_their_hashes() -> None:
    # The hash of an empty script, as `openssl dgst -sha256 -binary | base64` gives it.
    empty = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    assert f"script-src '{empty}';" in content_policy([Markup("")])
    assert "script-src 'none';" in content_policy([])
