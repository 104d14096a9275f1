"""The device of a run: it reaches the tensors, is refused in one line where it is not there, and is not compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch.overrides import TorchFunctionMode

from edgescope.claims import Finding, JudgedCase
from edgescope.errors import InputError
from edgescope.experiments.dimension.runs import dimension_tasks
from edgescope.experiments.preset import Preset
from edgescope.experiments.study_run import Runs
from edgescope.figures import Figure
from edgescope.progress import Progress
from edgescope.store import Record
from edgescope.studies import Study, run_study
from edgescope.sweep import Tagged, Task, TrainTask, run, tasks_on
from edgescope.sweep.processes import Processes, use_accelerator
from edgescope.training import Parts, RunConfig, train

SMALL = RunConfig(
    data="digits:train=30,test=10",
    model="mlp:widths=4",
    steps=4,
    every=2,
    checkpoint_every=1,
    measures=("loss", "sharpness", "oscillation"),
    threads=1,
    path="kept",
)
ABSENT = "cuda:99"


class Devices(TorchFunctionMode):
    """Notes the devices that tensors are asked to move to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[torch.device] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.asked |= {value for value in (*args, *(kwargs or {}).values()) if isinstance(value, torch.device)}
        return func(*args, **(kwargs or {}))


def test_model_and_data_are_moved_to_the_device_that_is_named() -> None:
    with Devices() as devices:
        Parts(replace(SMALL, device="cpu:0"))
    assert torch.device("cpu", 0) in devices.asked  # tensors themselves do not keep the number
    with Devices() as devices:
        Parts(SMALL)
    assert torch.device("cpu", 0) not in devices.asked


def test_everything_of_a_run_is_on_its_device() -> None:
    config = replace(SMALL)
    object.__setattr__(config, "device", "meta")  # which is refused otherwise, as nothing can be computed there
    first = Parts(config)
    for parts in (first, Parts(config, like=first)):
        tensors = [*parts.model.parameters(), *parts.samples, *parts.test_samples]
        assert {tensor.device.type for tensor in tensors} == {"meta"}


@pytest.mark.parametrize("name", ["meta", "tpu", "cuda:x"])
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"device '{name}'; expected a device such as cpu, cuda"):
        replace(SMALL, device=name)


def test_a_device_that_is_not_here_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    config = replace(SMALL, device=ABSENT)  # another machine of a cluster may have it
    with pytest.raises(InputError, match=rf"device '{ABSENT}' cannot be used here.*expected one of cpu"):
        train(config, tmp_path / "a")
    with pytest.raises(InputError, match=f"device '{ABSENT}' cannot be used here"):
        run_study(Two(), tmp_path / "b", device=ABSENT)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("cards", "expected"), [(0, []), (1, []), (2, [0, 1, 0]), (3, [0, 1, 2])])
def test_workers_take_the_cards_in_turn(cards: int, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: cards)
    monkeypatch.setattr(torch.accelerator, "set_device_index", taken.append)
    for number in range(3):
        use_accelerator(number)
    assert taken == expected


def test_the_number_of_a_dead_worker_is_given_again() -> None:
    with Processes(3, ()) as processes:
        workers = [processes._worker() for _ in range(3)]
        assert list(processes._cards.values()) == [0, 1, 2]
        del processes._cards[workers[1]]
        again = processes._worker()
        assert processes._cards[again] == 1
        for worker in (*workers, again):
            worker.shutdown()


def stopped_at_2(share: float, words: str = "", left: float | None = None, /) -> None:
    if share >= 0.5:
        raise KeyboardInterrupt


def rows(folder: Path) -> list[Any]:
    with Record.open(folder) as record:
        return record.table().select("step", "measure", "part", "value").rows()


def test_a_run_is_continued_on_another_device_and_says_so(tmp_path: Path) -> None:
    train(SMALL, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, tmp_path / "moved", stopped_at_2)
    with Record.open(tmp_path / "moved") as record:
        assert "device" not in record.config  # so that records of earlier versions, which have none, are continued
        assert record.info["device"] == "cpu"
        record.set_info("device", "cuda:0")
    train(replace(SMALL, device="cpu"), tmp_path / "moved", resume=True)
    assert rows(tmp_path / "moved") == rows(tmp_path / "whole")
    with Record.open(tmp_path / "moved") as record:
        said = record.events().filter(kind="resumed")["text"].to_list()
        assert said[0] == "continued from step 1 on cpu, before on cuda:0"
        assert record.info["device"] == "cpu"


def test_batched_runs_are_on_their_device(tmp_path: Path) -> None:
    base = replace(SMALL, measures=("loss", "sharpness@end"), device="cpu")
    runs = {f"lr{lr:g}": replace(base, lr=lr) for lr in (0.01, 0.02)}
    run(runs, tmp_path, batched="always")
    for name in runs:
        with Record.open(tmp_path / "runs" / name) as record:
            assert record.info["batched"]["runs"] == 2
            assert record.info["device"] == "cpu"


@dataclass(frozen=True)
class Simulation(Tagged):
    """A task that computes on the CPU alone."""

    name: str = "simulation"
    cost: float = 1.0

    def run(self, folder: Path, progress: Progress) -> None:
        with Record.create(folder, config={}) as record:
            record.set_status("finished")


@dataclass(frozen=True)
class Two(Study):
    """A run and a simulation."""

    name: ClassVar[str] = "two"
    title: ClassVar[str] = "Two"
    abstract: ClassVar[str] = ""
    paper: ClassVar[str] = ""

    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        return [TrainTask("run", SMALL, 1.0), Simulation()]

    def findings(self, runs: Runs) -> list[Finding]:
        case = JudgedCase("run", 1.0, 1.0, 1.0, "holds")
        return [Finding("two.runs", "It runs", "nobody", "a run", "holds", "It does.", cases=(case,))]

    def figures(self, runs: Runs) -> list[Figure]:
        return []


def test_the_device_reaches_the_runs_of_a_study_and_leaves_simulations_alone() -> None:
    tasks = Two().tasks("quick", 0)
    moved = tasks_on(tasks, "cuda:1")
    assert isinstance(moved[0], TrainTask)
    assert moved[0].config == replace(SMALL, device="cuda:1")
    assert moved[1] is tasks[1]


def test_networks_that_are_trained_together_are_moved_together() -> None:
    (task,) = [task for task in tasks_on(dimension_tasks("quick", 0), "cuda:1") if task.name == "mlp-b16"]
    assert {config.device for config in task.configurations().values()} == {"cuda:1"}  # type: ignore[attr-defined]


def test_a_study_does_not_compare_the_device(tmp_path: Path) -> None:
    for device, resume in ((None, False), ("cpu", True)):
        assert run_study(Two(), tmp_path / "study", device=device, resume=resume).findings == Two().findings({})
    assert "device" not in json.loads((tmp_path / "study" / "study.json").read_text())
    with Record.open(tmp_path / "study" / "runs" / "run") as record:
        assert record.status == "finished"
