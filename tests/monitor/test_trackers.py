"""``log=`` sends readings to experiment trackers; one that fails is noticed once, and training goes on."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from monitor_runs import LOSS, backward, data, noticed, small
from torch.optim import SGD

import edgescope as es
from edgescope.errors import EdgescopeWarning, InputError, MissingExtraError, UnknownNameError
from edgescope.measures import Reading
from edgescope.monitor.trackers import TRACKERS, tracker_from, values_of

MEASURES = ["loss", "sharpness:k=2", "ratio"]
KEYS = {"edgescope/loss/train", "edgescope/sharpness/1", "edgescope/sharpness/2", "edgescope/ratio"}


def trained(log: Any, **options: Any) -> tuple[es.Monitor, torch.Tensor]:
    """A closed monitor that measured at the steps 0, 2 and 4, and the weights."""
    model = small()
    optimizer = SGD(model.parameters(), lr=0.1)
    monitor = es.watch(model, optimizer, LOSS, data(), every=2, measures=MEASURES, log=log, **options)
    for _ in range(5):
        optimizer.zero_grad()
        backward(model)
        optimizer.step()
    monitor.close()
    return monitor, torch.cat([p.detach().flatten() for p in model.parameters()])


def expected(monitor: es.Monitor) -> list[tuple[int, str, float]]:
    """All values of the record by step and key."""
    rows = monitor.table().select("step", "measure", "part", "value").rows()
    return sorted(
        (step, f"edgescope/{name}/{part}" if part else f"edgescope/{name}", v) for step, name, part, v in rows
    )


def test_a_function_is_called_with_the_values_and_the_step() -> None:
    received: list[tuple[dict[str, float], int]] = []
    monitor, _ = trained(lambda values, step: received.append((values, step)))
    assert [step for _, step in received] == [0, 2, 4]
    assert all(set(values) == KEYS for values, _ in received)
    assert sorted((step, key, v) for values, step in received for key, v in values.items()) == expected(monitor)


def test_a_tracker_that_raises_is_warned_about_once_and_training_is_the_same() -> None:
    calls = []

    def fails(values: dict[str, float], step: int) -> None:
        calls.append(step)
        raise ConnectionError(f"no connection {'again' * len(calls)}")

    _, undisturbed = trained(None)
    with pytest.warns(EdgescopeWarning, match="log= raised an error .*no connection") as warned:
        monitor, weights = trained(fails)
    assert len(warned) == 1
    assert calls == [0, 2, 4]
    assert torch.equal(weights, undisturbed)
    assert monitor.table()["step"].unique().sort().to_list() == [0, 2, 4]
    with pytest.raises(ConnectionError):
        trained(fails, on_error="raise")


def test_what_is_no_tracker_is_refused() -> None:
    for log, error in ((3, InputError), (lambda values: None, InputError), ("wandbb", UnknownNameError)):
        with pytest.raises(error):
            tracker_from(log, None)


@pytest.mark.parametrize("name", sorted(set(TRACKERS) - {"csv"}))
def test_a_tracker_that_is_not_installed_is_named_before_anything_is_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    with pytest.raises(MissingExtraError, match=rf"log='{name}' needs the package {name}.*pip install 'edgescope\["):
        trained(name, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_csv_has_a_line_for_each_value(tmp_path: Path) -> None:
    monitor, _ = trained("csv", out=tmp_path / "run")
    with (tmp_path / "run" / "readings.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted((int(row["step"]), row["key"], float(row["value"])) for row in rows) == expected(monitor)


def test_tensorboard_reads_what_was_logged(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monitor, _ = trained("tensorboard", out=tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    found = sorted((e.step, key, e.value) for key in events.Tags()["scalars"] for e in events.Scalars(key))
    for (step, key, value), (own_step, own_key, own) in zip(found, expected(monitor), strict=True):
        assert (step, key) == (own_step, own_key)
        assert value == pytest.approx(own, rel=1e-6)


# ----------------------------------------------------------------------------- packages that are not installed here


class Recorder:
    """A run of a tracker that notes what is called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **options: self.calls.append((name, args, options))

    def named(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(args, options) for called, args, options in self.calls if called == name]


def fake(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> Any:
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def test_wandb_gets_an_offline_run_with_its_own_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run, made = Recorder(), []
    fake(monkeypatch, "wandb", run=None, init=lambda **options: made.append(options) or run)
    trained("wandb", out=tmp_path / "run")
    assert made == [{"project": "edgescope", "mode": "offline", "dir": str(tmp_path / "run")}]
    logged = run.named("log")
    assert [options for _, options in logged] == [{"step": 0}, {"step": 2}, {"step": 4}]
    assert all(set(args[0]) == KEYS for args, _ in logged)
    assert len(run.named("finish")) == 1


def test_an_active_run_of_wandb_keeps_its_steps_and_is_not_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Recorder()
    fake(monkeypatch, "wandb", run=run)
    trained("wandb")
    assert run.named("define_metric") == [(("edgescope/*",), {"step_metric": "edgescope/step"})]
    assert [args[0]["edgescope/step"] for args, _ in run.named("log")] == [0, 2, 4]
    assert all(options == {} for _, options in run.named("log"))
    assert not run.named("finish")


@pytest.mark.parametrize("active", [False, True])
def test_mlflow_gets_a_local_run_or_the_active_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, active: bool
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client, places = Recorder(), []

    def client_of(**options: Any) -> Any:
        places.append(options)
        client.get_experiment_by_name = lambda name: SimpleNamespace(experiment_id=f"id of {name}")
        client.create_run = lambda experiment: SimpleNamespace(info=SimpleNamespace(run_id=f"in {experiment}"))
        return client

    own = SimpleNamespace(info=SimpleNamespace(run_id="mine")) if active else None
    fake(monkeypatch, "mlflow", MlflowClient=client_of, active_run=lambda: own)
    trained("mlflow", out=tmp_path / "run")
    assert places == ([{}] if active else [{"tracking_uri": f"sqlite:///{tmp_path.as_posix()}/run/mlflow.db"}])
    logged = client.named("log_metric")
    assert {args[0] for args, _ in logged} == {"mine" if active else "in id of edgescope"}
    assert {args[1] for args, _ in logged} == KEYS
    assert [options["step"] for args, options in logged if args[1] == "edgescope/ratio"] == [0, 2, 4]
    assert len(client.named("set_terminated")) == (not active)


def test_mlflow_gets_no_characters_that_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Recorder()
    own = SimpleNamespace(info=SimpleNamespace(run_id="mine"))
    fake(monkeypatch, "mlflow", MlflowClient=lambda: client, active_run=lambda: own)
    tracker = TRACKERS["mlflow"](None)
    tracker.log(values_of({"odd & é": Reading("odd & é", {"0.w[1]": 1.0})}), 3)
    assert client.named("log_metric") == [(("mine", "edgescope/odd _ _/0.w_1_", 1.0), {"step": 3})]


@pytest.mark.parametrize("active", [False, True])
def test_trackio_gets_a_run_or_the_active_one(monkeypatch: pytest.MonkeyPatch, active: bool) -> None:
    run, made = Recorder(), []
    current = SimpleNamespace(current_run=SimpleNamespace(get=lambda: run if active else None))
    fake(monkeypatch, "trackio", context_vars=current, init=lambda **options: made.append(options) or run)
    trained("trackio")
    assert made == ([] if active else [{"project": "edgescope"}])
    assert [options["step"] for _, options in run.named("log")] == [0, 2, 4]
    assert len(run.named("finish")) == (not active)
    TRACKERS["trackio"](None).log({"a": float("inf"), "b": 1.0}, 9)
    assert run.named("log")[-1] == (({"b": 1.0},), {"step": 9})


def test_a_run_without_a_step_opens_no_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "wandb")  # without anything that could be called
    model = small()
    with noticed(), es.watch(model, SGD(model.parameters(), lr=0.1), LOSS, data(), log="wandb"):
        pass
