"""A record that is continued: at which step, what becomes of later readings, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from monitor_runs import backward, data, noticed, objective_of, small
from polars.testing import assert_frame_equal
from resumed_sessions import ALL, MAKE, through_a_file, train
from torch import nn
from torch.optim import SGD, Adam

from edgescope.errors import InputError, RecordError
from edgescope.monitor import Monitor
from edgescope.store import Record


def steps_in(folder: Path, measure: str = "loss", part: str = "train") -> list[int]:
    with Record.open(folder) as record:
        return record.series(measure, part)[0].tolist()


def session(
    folder: Path, steps: int, resume: bool | int = False, seed: int = 0, kind: str = "sgd", **more: Any
) -> nn.Module:
    """A model from its initialisation, trained for so many steps; the record then is closed."""
    model = small(seed)
    optimizer = MAKE[kind](model)
    with Monitor(
        objective_of(model), optimizer, out=folder, resume=resume, **{"every": 2, "measures": ["loss"]} | more
    ) as monitor:
        train(monitor, model, optimizer, steps)
    return model


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("lost", [0, 3])
def test_a_checkpoint_of_the_user_continues_bit_for_bit(tmp_path: Path, kind: str, lost: int) -> None:
    """``lost`` steps were taken after the checkpoint by the session before, on other data."""
    model = small()
    optimizer = MAKE[kind](model)
    with noticed():
        with Monitor(objective_of(model), optimizer, every=1, measures=ALL, out=tmp_path / "whole") as monitor:
            train(monitor, model, optimizer, 9)
        model = small()
        optimizer = MAKE[kind](model)
        with Monitor(objective_of(model), optimizer, every=1, measures=ALL, out=tmp_path / "parts") as monitor:
            train(monitor, model, optimizer, 4)
            parts = {"model": model, "optimizer": optimizer, "monitor": monitor}
            saved = through_a_file({name: part.state_dict() for name, part in parts.items()})
            for _ in range(lost):
                backward(model, data(seed=3))
                optimizer.step()
        model = small(seed=7)
        optimizer = MAKE[kind](model)
        monitor = Monitor(objective_of(model), optimizer, every=1, measures=ALL, out=tmp_path / "parts", resume=True)
        for name, part in {"model": model, "optimizer": optimizer, "monitor": monitor}.items():
            part.load_state_dict(saved[name])
        assert monitor.steps == 4
        train(monitor, model, optimizer, 5)
        monitor.close()
    with Record.open(tmp_path / "whole") as whole, Record.open(tmp_path / "parts") as continued:
        assert continued.fingerprint() == whole.fingerprint()
        assert_frame_equal(continued.table()["value", "error"], whole.table()["value", "error"], check_exact=True)
        assert continued.status == "finished"
        texts = continued.events().filter(kind="resumed")["text"].to_list()
        assert texts == ["continued from step 4" + (f"; {lost} later steps, up to {4 + lost}, removed" if lost else "")]


def test_readings_of_two_sessions_are_never_mixed(tmp_path: Path) -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.1)
    monitor = Monitor(objective_of(model), optimizer, every=2, measures=["loss", "norms"], out=tmp_path)
    train(monitor, model, optimizer, 4)
    state = through_a_file(monitor.state_dict())
    train(monitor, model, optimizer, 6)
    monitor.record.note(7, "something", "of the first session")
    monitor.close("interrupted")
    with Record.open(tmp_path) as record:
        before = record.table()

    def again() -> Monitor:
        found = Monitor(objective_of(model), optimizer, every=3, measures=["loss"], out=tmp_path, resume=True)
        found.load_state_dict(state | {"measures": {"loss": {}}})
        return found

    again().close()  # without a step nothing is touched
    with Record.open(tmp_path) as record:
        assert_frame_equal(record.table(), before)
        assert record.status == "interrupted"
        assert record.events()["kind"].to_list() == ["something"]
    monitor = again()
    train(monitor, model, optimizer, 1)  # step 5, at which nothing is measured
    with Record.open(tmp_path) as record:
        assert_frame_equal(record.table(), before.filter(before["step"] <= 4))
        assert record.events()["kind"].to_list() == ["resumed"]
        assert record.state == "running"
    train(monitor, model, optimizer, 4)
    monitor.close()
    assert steps_in(tmp_path) == [0, 2, 4, 6, 9]
    assert steps_in(tmp_path, "norms", "l2") == [0, 2, 4]


def test_the_same_model_goes_on_where_its_record_ends(tmp_path: Path) -> None:
    """As in a notebook: the parameters tell, though nothing was loaded, and a new optimizer has counted nothing."""
    model = session(tmp_path, 5)
    for made in (SGD, Adam):
        optimizer = made(model.parameters(), lr=0.01)
        with Monitor(objective_of(model), optimizer, every=1, measures=["loss"], out=tmp_path, resume=True) as monitor:
            train(monitor, model, optimizer, 2)
    assert steps_in(tmp_path) == [0, 2, 4, 5, 6, 7, 8, 9]


def test_what_an_optimizer_has_counted_tells_the_step(tmp_path: Path) -> None:
    model = small()
    optimizer = Adam(model.parameters(), lr=0.01)
    with Monitor(objective_of(model), optimizer, every=1, measures=["loss"], out=tmp_path) as monitor:
        train(monitor, model, optimizer, 4)
        saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        train(monitor, model, optimizer, 3)
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    monitor = Monitor(
        objective_of(model), optimizer, every=1, measures=["loss", "norms", "time"], out=tmp_path, resume=True
    )
    assert monitor.steps == 4
    train(monitor, model, optimizer, 2)
    assert "distance" not in monitor.latest["norms"].values
    assert "step 0 are not known" in monitor.latest["norms"].note
    assert not monitor.latest["time"].values  # of the steps before nothing is known
    monitor.close()
    assert steps_in(tmp_path) == [0, 1, 2, 3, 4, 5, 6]


def test_a_run_that_begins_anew_from_the_same_parameters_replaces_its_record(tmp_path: Path) -> None:
    session(tmp_path / "once", 4)
    session(tmp_path / "twice", 9)
    session(tmp_path / "twice", 4, resume=True)
    with Record.open(tmp_path / "once") as once, Record.open(tmp_path / "twice") as twice:
        assert twice.fingerprint() == once.fingerprint()
        assert twice.events()["text"].to_list() == ["continued from step 0; 4 later steps, up to 8, removed"]


def test_what_nothing_tells_is_refused_before_the_first_step(tmp_path: Path) -> None:
    session(tmp_path, 4)
    with Record.open(tmp_path) as record:
        before = record.fingerprint()
    model = small(seed=1)
    optimizer = SGD(model.parameters(), lr=0.1)
    monitor = Monitor(objective_of(model), optimizer, every=2, measures=["loss"], out=tmp_path, resume=True)
    initial = copy.deepcopy(model.state_dict())
    backward(model)
    with pytest.raises(InputError, match=r"up to step 4.*load_state_dict.*resume=4 to.*resume=0") as caught:
        optimizer.step()
    assert "\n" not in str(caught.value)
    assert all(torch.equal(initial[name], value) for name, value in model.state_dict().items())
    with pytest.raises(InputError, match="after how many steps"):
        _ = monitor.steps
    monitor.close()
    with Record.open(tmp_path) as record:
        assert record.fingerprint() == before


@pytest.mark.parametrize(("resume", "steps"), [(4, [0, 2, 4, 6]), (2, [0, 2, 4]), (0, [0, 2]), (8, [0, 2, 4, 8, 10])])
def test_a_number_says_where_to_go_on(tmp_path: Path, resume: int, steps: list[int]) -> None:
    """What the record has up to that step stays, what is later goes, and other parameters make no difference."""
    session(tmp_path, 5)
    model = session(tmp_path, 2, resume=resume, seed=1)
    assert steps_in(tmp_path) == steps
    with Record.open(tmp_path) as record:
        assert record.series("loss", "train")[1][-1] == pytest.approx(float(objective_of(model).loss()))


def test_a_number_counts_without_a_record_too() -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.1)
    monitor = Monitor(objective_of(model), optimizer, every=2, measures=["loss"], resume=7)
    train(monitor, model, optimizer, 3)
    assert monitor.steps == 10
    assert monitor.record.series("loss", "train")[0].tolist() == [8, 10]


def test_a_folder_without_a_record_gets_a_new_one(tmp_path: Path) -> None:
    session(tmp_path / "first", 4, resume=True)
    session(tmp_path / "second", 4)
    with Record.open(tmp_path / "first") as first, Record.open(tmp_path / "second") as second:
        assert first.fingerprint() == second.fingerprint()
        assert first.events().is_empty()


def test_without_an_optimizer_every_call_counts_on(tmp_path: Path) -> None:
    model = small()
    for _ in range(2):
        with Monitor(objective_of(model), every=1, measures=["loss"], out=tmp_path, resume=True) as monitor:
            for _ in range(3):
                monitor.step()
    assert steps_in(tmp_path) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("resume", [True, 3])
def test_a_record_of_another_objective_is_not_continued(tmp_path: Path, resume: bool | int) -> None:
    session(tmp_path, 4)
    for batch, words in (
        (data(20), "samples = 24, not 20"),
        (data(dtype=torch.float64), "dtype = float32, not float64"),
    ):
        model = small().to(batch[0].dtype)
        with pytest.raises(InputError, match=words) as caught:
            Monitor(objective_of(model, batch), SGD(model.parameters(), lr=0.1), out=tmp_path, resume=resume)
        assert "\n" not in str(caught.value)
    session(tmp_path, 4, resume=True)  # its lock is free again


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    session(tmp_path, 4, config={"width": 4})
    with pytest.raises(RecordError, match="width = 4, not 5"):
        session(tmp_path, 4, resume=True, config={"width": 5})
    session(tmp_path, 4, resume=True, config={"width": 4})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"resume": True}, "resume=True without a record; expected out="),
        ({"resume": -1}, "resume=-1"),
        ({"resume": "yes"}, "resume='yes'"),
        ({"resume": 1.0}, "resume=1.0"),
        ({"resume": None}, "resume=None"),
    ],
)
def test_what_cannot_be_continued(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Monitor(objective_of(small()), **arguments)


def test_the_advice_of_a_folder_that_is_taken_works(tmp_path: Path) -> None:
    session(tmp_path, 3)
    with pytest.raises(RecordError, match=r"try resume=True .*--resume on the command line.*another folder"):
        session(tmp_path, 3)
    session(tmp_path, 3, resume=True)


def test_a_record_of_the_user_that_was_interrupted_is_finished_in_the_end(tmp_path: Path) -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.1)
    monitor = Monitor(objective_of(model), optimizer, every=2, measures=["loss"], out=tmp_path)
    train(monitor, model, optimizer, 5)
    state = monitor.state_dict()
    monitor.close("interrupted")
    with Record.open(tmp_path) as record:
        monitor = Monitor(objective_of(model), optimizer, every=2, measures=["loss"], record=record)
        monitor.load_state_dict(state)
        assert record.status == "interrupted"
        train(monitor, model, optimizer, 3)
        assert record.status == "running"
        monitor.close()
        assert record.status == "finished"
        assert record.events().select("kind", "text").rows() == [("resumed", "continued from step 5")]
    assert steps_in(tmp_path) == [0, 2, 4, 6, 8]


def test_going_back_within_a_run(tmp_path: Path) -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=0.1)
    with Monitor(objective_of(model), optimizer, every=1, measures=["loss", "norms"], out=tmp_path / "a") as monitor:
        train(monitor, model, optimizer, 3)
        saved = through_a_file([model.state_dict(), monitor.state_dict()])
        train(monitor, model, optimizer, 4)
        model.load_state_dict(saved[0])
        monitor.load_state_dict(saved[1])
        assert monitor.steps == 3
        train(monitor, model, optimizer, 2)
    session(tmp_path / "b", 5, every=1, measures=["loss", "norms"])
    with Record.open(tmp_path / "a") as went_back, Record.open(tmp_path / "b") as straight:
        assert went_back.fingerprint() == straight.fingerprint()
