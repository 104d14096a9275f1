"""``run --dry-run`` prints what a study would cost and leaves nothing behind; ``--device`` is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from said import Run

ABSENT = "cuda:99"


@pytest.mark.parametrize("columns", [80, 120])
def test_a_dry_run_prints_a_table_and_writes_nothing(
    run: Run, here: Path, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    said = run("run", "grokking", "--preset", "paper", "--dry-run", "--jobs", 3)
    assert said.code == 0
    assert "study grokking, preset paper, on cpu: 12 tasks; nothing has been run" in said.out
    assert said.out.count("40\u202f000") == 12
    assert "Estimated for 12 of 12 tasks: 480\u202f000 steps" in said.out
    assert "with --jobs 3." in " ".join(said.out.split())
    assert "Not known: the learning rates, decays, loss and lengths;" in " ".join(said.out.split())
    assert max(map(len, said.out.splitlines())) <= columns
    assert not list(here.iterdir())


def test_a_dry_run_for_scripts(run: Run, here: Path) -> None:
    said = run("run", "grokking", "--dry-run", "--json", "--jobs", 1)
    plan = json.loads(said.out)
    assert [task["steps"] for task in plan["tasks"]] == [8000] * 3
    assert plan["seconds"] == plan["seconds_jobs"] == pytest.approx(sum(task["seconds"] for task in plan["tasks"]))
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    "command",
    [
        ("run", "edge", "--device", ABSENT),
        ("run", "edge", "--device", ABSENT, "--dry-run"),
        ("train", "--device", ABSENT, "--out", "a"),
        ("sweep", "--data", "digits", "--device", ABSENT),
    ],
)
def test_a_device_that_is_not_here_is_one_line(run: Run, here: Path, command: tuple[str, ...]) -> None:
    assert f"device '{ABSENT}' cannot be used here" in run(*command).refusal()
    assert not list(here.glob("runs/*/*.json"))


def test_json_belongs_to_a_dry_run(run: Run, here: Path) -> None:
    assert "--json without --dry-run" in run("run", "edge", "--json").refusal()
