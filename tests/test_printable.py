"""Text that is shown can do nothing to the terminal that shows it."""

from __future__ import annotations

import subprocess
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgescope.errors import InputError, RecordError
from edgescope.printable import printable, printable_names, shell_quoted

ANY = st.text(st.characters() | st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), max_size=40)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, η = 0.1 ≤ 2/λ, 12\u202f345, 日本, \\n", "plain, η = 0.1 ≤ 2/λ, 12\u202f345, 日本, \\n"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x9b31m\x7f\x00\x08", "\\x9b31m\\x7f\\x00\\x08"),
        ("\u202egnp.exe\u2066\u200f\u061c", "\\u202egnp.exe\\u2066\\u200f\\u061c"),
        ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
        ("\u200b\ufeff\u00ad\U000e0041", "\\u200b\\ufeff\\xad\\U000e0041"),
        ("name\udcff\ud800", "name\\xff\\ud800"),
        ("", ""),
    ],
)
def test_what_has_no_shape_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@settings(derandomize=True, deadline=None)
@given(text=ANY)
def test_nothing_else_changes(text: str) -> None:
    shown = printable(text)
    assert all(c.isprintable() or unicodedata.category(c) == "Zs" for c in shown)
    assert printable(shown) == shown
    shown.encode()  # can be written anywhere
    if all(unicodedata.category(c)[0] not in "C" and c not in "\u2028\u2029" for c in text):
        assert shown == text
    kept = printable(text, keep="\n\t")
    assert (kept.count("\n"), kept.count("\t")) == (text.count("\n"), text.count("\t"))


@settings(derandomize=True, deadline=None)
@given(what=ANY, expected=ANY, hint=ANY)
def test_every_error_is_one_line_that_can_be_shown(what: str, expected: str, hint: str) -> None:
    for kind in (InputError, RecordError):
        said = str(kind(what, expected=expected, hint=hint))
        assert said == printable(said)


def test_names_that_would_look_the_same_stay_apart() -> None:
    names = ["a\n", "a\\n", "b", "b", "b (2)", "c"]
    assert printable_names(names) == ["a\\n", "a\\n (2)", "b", "b (2)", "b (2) (2)", "c"]


def test_a_command_line_means_the_same_in_a_shell() -> None:
    words = [
        "plain",
        "two words",
        "it's",
        "\\n",
        "a\nb",
        "\x1b[31m",
        "it's \\ \x07",
        "\u202ex",
        "ü\t'",
        "",
        "$HOME`ls`",
    ]
    line = shell_quoted(words)
    assert line == printable(line)
    work = ["bash", "-c", f"printf '%s\\0' {line}"]
    said = subprocess.run(work, capture_output=True, check=True, env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"})
    assert said.stdout.decode().split("\0")[:-1] == words
