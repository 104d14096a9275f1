"""Tags of a run: kept in its record from the moment that it is created, by every way to create one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from edgescope.errors import InputError
from edgescope.store import Record
from edgescope.sweep import Tagged, TrainTask, run_tasks
from edgescope.training import RunConfig, train
from edgescope.training.batched_training import train_batched

TINY = RunConfig(data="xor:dim=3,train=8,test=8", model="mlp:widths=4", steps=2, measures=("loss@end",), threads=1)
TAGS = {"method": "gd", "network": "mlp", "seed": "0"}


def tags_in(folder: Path) -> dict[str, str]:
    with Record.open(folder) as record:
        return record.tags


def test_tags_are_those_the_record_was_created_with(tmp_path: Path) -> None:
    with Record.create(tmp_path, tags=TAGS) as record:
        assert record.tags == record.info["tags"] == TAGS
    assert tags_in(tmp_path) == TAGS
    with Record.resume(tmp_path) as record:
        record.set_info("steps", 1)
    assert tags_in(tmp_path) == TAGS


def test_a_record_without_tags_has_none(tmp_path: Path) -> None:
    with Record.create(tmp_path) as record:
        assert record.tags == {}
        assert "tags" not in record.info


def test_a_record_in_memory_has_tags() -> None:
    with Record.in_memory(tags=TAGS) as record:
        assert record.tags == TAGS


@pytest.mark.parametrize("tags", [{"seed": 0}, {0: "seed"}, ["gd"], "gd"])
def test_tags_that_are_not_text_are_refused_before_anything_is_written(tmp_path: Path, tags: object) -> None:
    with pytest.raises(InputError, match="tags ="):
        Record.create(tmp_path / "run", tags=tags)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_tags_do_not_change_the_fingerprint(tmp_path: Path) -> None:
    train(TINY, tmp_path / "plain")
    train(TINY, tmp_path / "tagged", tags=TAGS)
    assert tags_in(tmp_path / "tagged") == TAGS
    with Record.open(tmp_path / "plain") as plain, Record.open(tmp_path / "tagged") as tagged:
        assert plain.fingerprint() == tagged.fingerprint()


def test_runs_of_one_stack_get_the_tags(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("a", "b")}
    train_batched(dict.fromkeys(folders, TINY), folders, tmp_path, tags=TAGS)
    assert [tags_in(folder) for folder in folders.values()] == [TAGS, TAGS]


@dataclass(frozen=True)
class Own(Tagged):
    name: str
    cost: float

    def run(self, folder: Path, progress: object) -> None:
        Record.create(folder, tags=self.tags).close()


def test_a_task_hands_its_tags_to_its_record_in_this_process_and_in_others(tmp_path: Path) -> None:
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        tasks = [TrainTask("train", TINY, 1.0, tags=TAGS), Own("own", 1.0, tags={"method": "sam"}), Own("bare", 1.0)]
        assert [outcome.status for outcome in run_tasks(tasks, out, jobs=jobs)] == ["finished"] * 3
        assert tags_in(out / "runs" / "train") == TAGS
        assert tags_in(out / "runs" / "own") == {"method": "sam"}
        assert tags_in(out / "runs" / "bare") == {}
