"""Progress where nobody watches (plain lines) and in a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgescope.cli import progress
from edgescope.cli.progress import ProgressLine


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_come_every_few_percent_with_the_time_left(clock: list[float]) -> None:
    text = io.StringIO()
    with ProgressLine("training", Console(file=text, width=200)) as line:
        for step in range(101):
            clock[0] = float(step)
            line(step / 100, f"step {step}, loss [0.1]")
    lines = text.getvalue().splitlines()
    assert 15 <= len(lines) <= 21
    at_half = next(one for one in lines if one.startswith(" 50%"))
    assert "50\u202fs left; step 50, loss [0.1]" in at_half


def test_plain_lines_are_not_closer_than_two_seconds_nor_rarer_than_thirty(clock: list[float]) -> None:
    text = io.StringIO()
    with ProgressLine("training", Console(file=text, width=200)) as line:
        for step in range(100):
            clock[0] = step / 100
            line(step / 100, "fast")
        assert text.getvalue() == ""
        for second in range(0, 300):
            clock[0] = 1.0 + second
            line(0.99, "slow", 12.0)
    assert 9 <= len(text.getvalue().splitlines()) <= 11


def test_the_time_left_counts_from_where_a_resumed_run_began(clock: list[float]) -> None:
    text = io.StringIO()
    with ProgressLine("training", Console(file=text, width=200)) as line:
        line(0.5)
        clock[0] = 10.0
        line(0.6)
    assert "40\u202fs left" in text.getvalue()


def test_a_terminal_gets_a_bar() -> None:
    text = io.StringIO()
    with ProgressLine("training", Console(file=text, width=100, force_terminal=True)) as line:
        line(0.25, "step 5 [loss]", 60.0)
        line._bar.refresh()  # type: ignore[union-attr]
    assert "training" in text.getvalue()
    assert " 25%" in text.getvalue()
    assert "1\u202fmin 00\u202fs left" in text.getvalue()
    assert "step 5 [loss]" in text.getvalue()


def test_no_time_is_left_to_tell_of_while_hardly_anything_is_done(clock: list[float]) -> None:
    text = io.StringIO()
    with ProgressLine("study", Console(file=text, width=200)) as line:
        line(0.0, "waits for its processes")
        clock[0] = 15.0
        line(1e-4, "run a")
        clock[0] = 20.0
        line(0.05, "run a")
    assert [one.split(";")[0].strip() for one in text.getvalue().splitlines()] == [
        "0%  run a",
        "5%  6\u202fmin 20\u202fs left",
    ]
