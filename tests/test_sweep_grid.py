"""Grids of runs: their names, and runs trained together against the same runs one by one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgescope.errors import InputError
from edgescope.store import Record, latest_checkpoint
from edgescope.sweep import grid, rates, run
from edgescope.sweep.runs import _bundled as bundled
from edgescope.training import RunConfig, train
from edgescope.training.batched_training import grouped, kind_of, speedup, train_batched

BASE = RunConfig(
    data="digits:train=40,test=20",
    model="mlp:widths=4",
    steps=24,
    every=6,
    measures=("loss", "accuracy", "sharpness@end", "norms@end"),
    threads=1,
    path="kept",
    dtype="float64",
)


def base(**changes: Any) -> RunConfig:
    return dataclasses.replace(BASE, **changes)


CASES = {
    "to a threshold, one diverges": grid(base(stop_loss=0.42, steps=60), lr=[0.1, 0.5, 50.0]),
    "mini-batches and momentum": grid(
        base(batch=16), optimizer=["sgd", "sgd:momentum=0.9,weight_decay=0.01"], seed=range(2)
    ),
}


def same(one: Path, other: Path) -> None:
    with Record.open(one) as a, Record.open(other) as b:
        assert (a.status, a.info["steps"]) == (b.status, b.info["steps"])
        kinds = [[kind for kind in record.events()["kind"] if kind != "resumed"] for record in (a, b)]
        assert kinds[0] == kinds[1]
        if a.status == "diverged":
            return
        left, right = (record.table().select("step", "measure", "part", "value") for record in (a, b))
        keys = ["step", "measure", "part"]
        joined = left.join(right, on=keys, how="full", coalesce=True, suffix="_other").sort(keys)
        assert joined.height == left.height == right.height
        np.testing.assert_allclose(joined["value"], joined["value_other"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_runs_together_are_the_runs_one_by_one(case: str, tmp_path: Path) -> None:
    runs = CASES[case]
    outcomes = run(runs, tmp_path / "together", batched="always")
    assert list(outcomes) == list(runs)
    statuses = set()
    for name, config in runs.items():
        train(config, tmp_path / name)
        same(tmp_path / "together" / "runs" / name, tmp_path / name)
        with Record.open(tmp_path / "together" / "runs" / name) as record:
            assert record.info["batched"] == {"runs": len(runs), "faster": None}
            assert outcomes[name].status == record.status
            statuses.add(record.status)
        if outcomes[name].status == "finished":
            kept, alone = (latest_checkpoint(f) for f in (tmp_path / "together" / "runs" / name, tmp_path / name))
            assert kept is not None
            assert alone is not None
            for key, tensor in kept.tensors.items():
                np.testing.assert_allclose(tensor, alone.tensors[key], rtol=1e-6, atol=1e-9)
    assert ("diverged" in statuses) == (case == "to a threshold, one diverges")
    again = run(runs, tmp_path / "together", resume=True)
    assert {outcome.status for outcome in again.values()} == {"skipped"}


def test_a_kill_costs_nothing(tmp_path: Path) -> None:
    runs = grid(base(stop_loss=0.3, steps=30), lr=[0.02, 0.05], seed=[1])
    folders = {kind: {name: tmp_path / kind / name for name in runs} for kind in ("whole", "killed")}
    train_batched(runs, folders["whole"], tmp_path / "whole")
    for fatal in (3, 11, 20):

        def progress(share: float, words: str, fatal: int = fatal) -> None:
            if words.endswith(f"step {fatal}"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_batched(runs, folders["killed"], tmp_path / "killed", progress, save_seconds=0)
    train_batched(runs, folders["killed"], tmp_path / "killed", save_seconds=0)
    for name in runs:
        same(folders["whole"][name], folders["killed"][name])


def test_what_can_be_trained_together() -> None:
    assert kind_of(base(lr=1.0, seed=3, optimizer="sgd:momentum=0.5")) == kind_of(BASE)
    for alone in (
        {"optimizer": "adam"},
        {"optimizer": "sgd:nesterov=true,momentum=0.9"},
        {"measures": ("loss", "sharpness")},
        {"measures": ("loss@3",)},
        {"measures": ("loss", "directional_smoothness@end")},
        {"stop_accuracy": 0.9},
    ):
        assert kind_of(base(**alone)) is None, alone
    mixed = {"a": base(lr=0.1), "b": base(lr=0.2), "c": base(steps=3), "d": base(optimizer="adam")}
    assert [list(group) for group in grouped(mixed)] == [["a", "b"]]
    with pytest.raises(InputError):
        speedup({"a": base(model="resnet"), "b": base(model="resnet")})


@pytest.mark.parametrize(("faster", "chosen"), [(3.0, True), (1.1, False)])
def test_the_probe_decides_and_the_record_says_so(
    faster: float, chosen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgescope.sweep.runs.speedup", lambda runs: faster)
    runs = grid(base(steps=2, measures=("loss",)), lr=[0.1, 0.2])
    run(runs, tmp_path)
    for name in runs:
        with Record.open(tmp_path / "runs" / name) as record:
            assert record.info.get("batched") == ({"runs": 2, "faster": 3.0} if chosen else None)


@pytest.mark.parametrize("count", range(2, 10))
@pytest.mark.parametrize("jobs", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("cores", [2, 8])
def test_stacks_hold_all_runs_and_at_least_two_each(
    count: int, jobs: int, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgescope.sweep.runs.cpu_count", lambda: cores)
    runs = grid(base(), seed=range(count))
    stacks = [[name for name, _ in stack.runs] for stack in bundled(runs, tmp_path, "always", jobs)]
    assert sorted(name for stack in stacks for name in stack) == sorted(runs)
    assert min(map(len, stacks)) >= 2
    assert max(map(len, stacks)) - min(map(len, stacks)) <= 1
    assert len(stacks) == min(jobs, cores, count // 2)
    again = bundled(runs, tmp_path, "always", jobs + 1)
    assert [[name for name, _ in stack.runs] for stack in again] == stacks  # as chosen before in this folder


@pytest.mark.parametrize(
    ("jobs", "cores", "step", "sizes"),
    [
        # What a step of so many networks takes, in steps of one by itself.
        (4, 2, {2: 1.1, 4: 1.2}, [4]),  # cheap: one stack, though there are four jobs
        (4, 2, {2: 1.1, 4: 2.1}, [2, 2]),
        (4, 2, {2: 0.9, 4: 1.0}, [4]),  # a second process is not worth so little
        (4, 2, {2: 1.9, 4: 3.9}, []),  # not worth it
        (4, 4, {2: 1.1, 4: 1.2}, []),  # a core for each run is faster
        (1, 4, {2: 1.1, 4: 2.0}, [4]),
        (8, 1, {2: 1.1, 4: 3.0}, [4]),
    ],
)
def test_stacks_are_those_that_are_done_first(
    jobs: int, cores: int, step: dict[int, float], sizes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgescope.sweep.runs.cpu_count", lambda: cores)
    monkeypatch.setattr("edgescope.sweep.runs.speedup", lambda runs: len(runs) / step[len(runs)])
    stacks = bundled(grid(base(), seed=range(4)), tmp_path, "auto", jobs)
    assert [len(stack.runs) for stack in stacks] == sizes
    for stack in stacks:
        assert stack.speedup == pytest.approx(4 / min(jobs, cores) / step[sizes[0]])


def test_the_probe_measures_a_ratio() -> None:
    assert 0.1 < speedup(grid(base(measures=("loss",)), lr=[0.1, 0.2])) < 100


def test_grids_and_rates() -> None:
    runs = grid(BASE, lr=[0.1, 0.25], model=["mlp:widths=4", "mlp:widths=5"])
    assert list(runs) == [
        "lr0.1-modelmlp_widths=4",
        "lr0.1-modelmlp_widths=5",
        "lr0.25-modelmlp_widths=4",
        "lr0.25-modelmlp_widths=5",
    ]
    assert runs["lr0.25-modelmlp_widths=5"] == base(lr=0.25, model="mlp:widths=5")
    assert grid(BASE) == {"run": BASE}
    assert rates("0.1,0.02") == [0.02, 0.1]
    assert rates("1e-3:1:4log") == [0.001, 0.01, 0.1, 1.0]
    assert rates("0.1:0.5:3") == [0.1, 0.3, 0.5]


def test_bad_input() -> None:
    for values, message in (
        ({"lrr": [1]}, "a run has no option 'lrr'"),
        ({"lr": []}, r"lr = \[\] in a grid"),
        ({"lr": [0.1, 0.1]}, "each once"),
        ({"model": "mlp"}, "model = 'mlp' in a grid"),
        ({"lr": [-1.0]}, "lr=-1;"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            grid(BASE, **values)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    for text in ("", "a", "0", "-1", "1:0.1:5log", "0:1:5", "1:2:1", "1:inf:3", "0.1,0.1", "1:2:3exp", "nan"):
        with pytest.raises(InputError, match="learning rates"):
            rates(text)
