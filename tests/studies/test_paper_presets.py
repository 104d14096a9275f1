"""The presets "paper": their first steps, stopped and continued; and all tasks as other processes get them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from paper_tasks import SMALL

from edgescope.experiments.preset import Preset
from edgescope.store import Record
from edgescope.store.record import FILE
from edgescope.studies import STUDIES
from edgescope.sweep import Task, tasks_on

PAPER = [name for name in STUDIES if STUDIES[name].unknown]
"""The studies that say what is known of the paper's runs, which are those with the preset "paper"."""

PRESETS: list[tuple[str, Preset]] = [(name, preset) for name in STUDIES for preset in ("quick", "full")]
PRESETS += [(name, "paper") for name in PAPER]


STOPPED_AT = {"dimension": 0.2, "tradeoff": 0.004}
"""The share of a task after which it is stopped; training is the first part of these tasks."""


class Stopped(Exception):
    """The task was stopped on purpose."""


def go(task: Task, folder: Path, stop_at: float = 2.0) -> None:
    """Run a task; stop it at the first report of so much progress, after which nothing is written."""

    def progress(share: float, words: str = "", left: float | None = None, /) -> None:
        if share >= stop_at:
            raise Stopped

    task.run(folder, progress)


def readings(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """What all records below a folder hold, without times."""
    found = {}
    for path in sorted(folder.rglob(FILE)):
        with Record.open(path.parent) as record:
            assert record.status == "finished"
            rows = record.table().select("step", "measure", "part", "value").rows()
            found[str(path.parent.relative_to(folder))] = [row for row in rows if row[1] != "persistent_homology"]
    return found


@pytest.mark.parametrize("study", SMALL)
def test_the_first_steps_are_stopped_and_continued(study: str, tmp_path: Path) -> None:
    task = SMALL[study]()
    go(task, tmp_path / "whole")
    with pytest.raises(Stopped):
        go(task, tmp_path / "stopped", stop_at=STOPPED_AT.get(study, 0.5))
    go(task, tmp_path / "stopped")
    whole, continued = readings(tmp_path / "whole"), readings(tmp_path / "stopped")
    assert whole
    for name, rows in whole.items():
        assert len(rows) > 10
        assert continued[name] == rows


@pytest.mark.parametrize(("study", "preset"), PRESETS)
def test_every_task_can_be_sent_to_another_process(study: str, preset: Preset) -> None:
    tasks = STUDIES.build(study).tasks(preset, 3)
    assert tasks
    for task in [*tasks, *tasks_on(tasks, "cuda:1")]:
        assert pickle.loads(pickle.dumps(task)) == task
