"""The record gives back exactly what was appended."""

from __future__ import annotations

import json
import math
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgescope.cost import Cost
from edgescope.errors import InputError, RecordError, UnknownNameError
from edgescope.measures.reading import Reading
from edgescope.store import Record, save_checkpoint


def eigenvalues(step: int) -> Reading:
    return Reading(
        "eigenvalues",
        {"1": 40.0 + step, "2": 38.0, "10": 3.0},
        errors={"1": 1e-3},
        arrays={"": np.arange(3, dtype=np.float32) + step, "vectors": np.eye(2)},
        cost=Cost(1, 2, 3 + step),
        seconds=0.25,
        note="float32",
    )


def loss(step: int) -> Reading:
    return Reading("loss", {"": 1.0 / (step + 1)})


@pytest.fixture
def record(tmp_path: Path):
    with Record.create(tmp_path / "run", config={"lr": 0.1}) as made:
        yield made


def bits(number: float) -> bytes:
    return struct.pack("<d", number)


def test_table_has_one_row_a_step_measure_and_part_in_the_order_given(record: Record) -> None:
    record.append(2, [loss(2), eigenvalues(2)])
    record.append(0, [eigenvalues(0), Reading("trace", {}, note="no value: diverged")])
    expected = pl.DataFrame(
        [
            (0, "eigenvalues", "1", 40.0, 1e-3, 1, 2, 3, "float32"),
            (0, "eigenvalues", "2", 38.0, None, None, None, None, "float32"),
            (0, "eigenvalues", "10", 3.0, None, None, None, None, "float32"),
            (0, "trace", "", None, None, 0, 0, 0, "no value: diverged"),
            (2, "loss", "", 1 / 3, None, 0, 0, 0, ""),
            (2, "eigenvalues", "1", 42.0, 1e-3, 1, 2, 5, "float32"),
            (2, "eigenvalues", "2", 38.0, None, None, None, None, "float32"),
            (2, "eigenvalues", "10", 3.0, None, None, None, None, "float32"),
        ],
        schema=["step", "measure", "part", "value", "error", "losses", "gradients", "products", "note"],
        orient="row",
    )
    assert record.table().equals(expected)
    assert record.table().select("losses", "gradients", "products").sum().row(0) == (2, 4, 8)
    costs = record.costs()
    assert costs.filter(pl.col("measure") == "eigenvalues")["products"].sum() == 8
    assert costs["seconds"].to_list() == [0.25, 0.0, 0.0, 0.25]


def test_an_empty_record_has_typed_empty_tables(record: Record) -> None:
    assert record.table().schema["value"] == pl.Float64
    assert record.table().is_empty()
    assert record.wide().is_empty()
    assert record.events().is_empty()
    assert record.costs().is_empty()
    assert record.last_step is None
    assert [a.size for a in record.series("loss")] == [0, 0]


def test_wide_and_series(record: Record) -> None:
    for step in (3, 1, 2):
        record.append(step, [loss(step)] + ([eigenvalues(step)] if step > 1 else []))
    wide = record.wide("eigenvalues/2", "loss")
    assert wide.columns == ["step", "eigenvalues/2", "loss"]
    assert wide.rows() == [(1, None, 1 / 2), (2, 38.0, 1 / 3), (3, 38.0, 1 / 4)]
    assert record.wide().columns == ["step", "loss", "eigenvalues/1", "eigenvalues/2", "eigenvalues/10"]
    assert record.wide("eigenvalues").columns == ["step", "eigenvalues/1", "eigenvalues/2", "eigenvalues/10"]
    steps, values = record.series("eigenvalues", "1")
    assert steps.dtype == np.int64
    assert steps.tolist() == [2, 3]
    assert values.tolist() == [42.0, 43.0]
    assert record.series("eigenvalues", "7")[0].size == 0
    for ask in (record.series, record.wide):
        with pytest.raises(UnknownNameError, match=r"'eigenvalue'.*try 'eigenvalues'"):
            ask("eigenvalue")


@settings(max_examples=30)
@given(numbers=st.lists(st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324]), max_size=6))
def test_every_float_survives_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, numbers: list[float]) -> None:
    values = {str(i): number for i, number in enumerate(numbers)}
    with Record.create(tmp_path_factory.mktemp("run"), command="") as record:
        record.append(0, [Reading("m", values, errors=values)])
    with Record.open(record.folder) as again:
        table = again.table()
    if numbers:
        for column in ("value", "error"):
            kept = table[column].to_list()
            assert [bits(a) for a in kept] == [bits(math.nan if math.isnan(b) else b) for b in numbers]


@settings(max_examples=30)
@given(
    array=hnp.arrays(
        st.sampled_from(["<f4", "<f8", ">f8", "<i8", "u1", "?", "<c16"]), hnp.array_shapes(min_dims=0, min_side=0)
    )
)
def test_every_array_survives_with_dtype_and_shape(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    with Record.create(tmp_path_factory.mktemp("run"), command="") as record:
        record.append(0, [Reading("m", {}, arrays={"x": array})])
        kept = record.array(0, "m", "x")
    assert kept.dtype == array.dtype
    assert kept.shape == array.shape
    assert kept.tobytes() == array.tobytes()


def test_numbers_of_numpy_and_torch_are_taken(record: Record) -> None:
    record.append(np.int64(4), [Reading("m", {"a": np.float32(0.5), "b": torch.tensor(2.0), "c": 3})])
    assert record.table()["value"].to_list() == [0.5, 2.0, 3.0]


def test_a_step_written_again_replaces_itself_and_keeps_what_was_noted(record: Record) -> None:
    record.append(5, [eigenvalues(5), loss(5)], events=[("stopped", "old")])
    record.note(5, "interrupted", "Ctrl-C")
    record.append(5, [loss(9)], events=[("stopped", "new")])
    assert record.table().rows() == [(5, "loss", "", 0.1, None, 0, 0, 0, "")]
    assert sorted(record.events().select("kind", "text").rows()) == [("interrupted", "Ctrl-C"), ("stopped", "new")]
    with pytest.raises(InputError, match="no array 'eigenvalues'"):
        record.array(5, "eigenvalues")


def test_the_same_note_is_kept_once(record: Record) -> None:
    for _ in range(2):
        record.note(7, "diverged", "loss is NaN")
    record.note(3, "resumed", "from step 3")
    assert record.events().drop("time").rows() == [(3, "resumed", "from step 3"), (7, "diverged", "loss is NaN")]


def test_nothing_of_a_refused_step_is_kept(record: Record) -> None:
    record.append(1, [loss(1)])
    before = record.fingerprint()
    text, tensor = Reading("m", {}), Reading("m", {})
    text.values[""] = "high"  # type: ignore[assignment]
    tensor.values[""] = torch.ones(2)  # type: ignore[assignment]
    bad = [
        [loss(1), text],
        [loss(1), tensor],
        [loss(1), Reading("m", {}, arrays={"": np.array([object()])})],
        [loss(1), loss(2)],
    ]
    for readings in bad:
        with pytest.raises(InputError) as caught:
            record.append(1, readings)
        assert "\n" not in str(caught.value)
    for step in (-1, 1.5, 2**63):
        with pytest.raises(InputError, match="whole number"):
            record.append(step, [])  # type: ignore[arg-type]
    assert record.fingerprint() == before


def test_an_error_inside_the_transaction_rolls_back(record: Record) -> None:
    record.append(1, [loss(1)])
    before = record.fingerprint()
    with pytest.raises(RecordError):  # the events, written last, are not text
        record.append(1, [eigenvalues(1)], events=[("stopped", object())])  # type: ignore[list-item]
    assert record.fingerprint() == before
    record.append(2, [loss(2)])
    assert record.last_step == 2


def test_config_info_and_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"lr": math.nan, "widths": (200, 200), "out": tmp_path, "momentum": np.float64(0.9), "none": None}
    record = Record.create(tmp_path / "run", config=config, command="edgescope train --lr 0.1")
    record.set_info("path", "double-backward")
    record.set_status("diverged")
    record.close()
    record.close()
    with Record.open(tmp_path / "run") as again:
        assert math.isnan(again.config.pop("lr"))
        assert again.config["widths"] == [200, 200]
        assert again.config["out"] == str(tmp_path)
        assert again.config["momentum"] == 0.9
        info = again.info
        assert info["torch"] == str(torch.__version__)
        assert info["numpy"] == np.__version__
        assert info["python"] == ".".join(map(str, sys.version_info[:3]))
        assert info["command"] == "edgescope train --lr 0.1"
        assert info["threads"] == torch.get_num_threads()
        assert info["path"] == "double-backward"
        assert {"edgescope", "platform", "commit", "started"} < set(info)
        assert again.status == "diverged"
        with pytest.raises(InputError, match=r"'done'.*running, finished"):
            again.set_status("done")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="info 'x'"):
            again.set_info("x", object())
    with pytest.raises(InputError, match="configuration cannot be stored as JSON"):
        Record.create(tmp_path / "other", config={"model": torch.nn.Linear(1, 1)})
    assert not (tmp_path / "other").exists()


def test_the_commit_is_that_of_the_working_directory_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Record.create(tmp_path / "outside") as record:
        assert record.info["commit"] is None
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", *command], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    with Record.create(tmp_path / "inside") as record:
        assert record.info["commit"] == head
    monkeypatch.setenv("PATH", "")
    with Record.create(tmp_path / "without") as record:
        assert record.info["commit"] is None


def test_the_fingerprint_sees_every_number_and_no_time(tmp_path: Path) -> None:
    def made(name: str, readings: list[Reading], events: tuple[tuple[str, str], ...] = (), lr: float = 0.1) -> Record:
        record = Record.create(tmp_path / name, config={"lr": lr})
        record.append(1, readings, events)
        return record

    base = made("base", [loss(1), eigenvalues(1)])
    reference = base.fingerprint()
    slower = Reading(**(vars(eigenvalues(1)) | {"seconds": 9.0, "cost": Cost(7, 7, 7)}))
    same = made("same", [loss(1), slower])
    same.note(0, "resumed", "from step 0")
    same.set_info("threads", 99)
    same.append(1, [loss(3)])
    same.append(1, [loss(1), slower])
    assert same.fingerprint() == reference
    array = eigenvalues(1).arrays | {"vectors": np.nextafter(np.eye(2), 2)}
    different = [
        made("value", [Reading("loss", {"": math.nextafter(0.5, 1)}), eigenvalues(1)]),
        made("array", [loss(1), Reading(**(vars(eigenvalues(1)) | {"arrays": array}))]),
        made("error", [loss(1), Reading(**(vars(eigenvalues(1)) | {"errors": {}}))]),
        made("note", [loss(1), Reading(**(vars(eigenvalues(1)) | {"note": "float64"}))]),
        made("event", [loss(1), eigenvalues(1)], events=(("diverged", "loss is NaN"),)),
        made("config", [loss(1), eigenvalues(1)], lr=0.2),
        made("step", [loss(1), eigenvalues(1)]),
        made("status", [loss(1), eigenvalues(1)]),
    ]
    different[-2].append(2, [])
    different[-1].set_status("finished")
    assert len({reference} | {record.fingerprint() for record in different}) == 1 + len(different)
    for record in (base, same, *different):
        record.close()


def test_a_record_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    with Record.create(tmp_path, config={"n": 1}) as record:
        record.append(3, [loss(3)])
        save_checkpoint(tmp_path, 3, {}, {})
        with pytest.raises(RecordError, match=r"already contains a record.*--resume"):
            Record.create(tmp_path)
    with Record.create(tmp_path, config={"n": 2}, overwrite=True) as record:
        assert record.config == {"n": 2}
        assert record.last_step is None
    assert not list((tmp_path / "checkpoints").iterdir())


def test_stale_checkpoints_are_not_taken_for_those_of_a_new_run(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 3, {}, {})
    with pytest.raises(RecordError, match="already contains checkpoints"):
        Record.create(tmp_path)


def test_closing_leaves_one_file_that_any_sqlite_reads(tmp_path: Path) -> None:
    with Record.create(tmp_path / "run", config={"a": 1}) as record:
        record.append(0, [Reading("m", {"": math.nan})])
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["record.sqlite"]
    database = sqlite3.connect(tmp_path / "run" / "record.sqlite")
    assert database.execute("SELECT value FROM value").fetchall() == [("nan",)]
    assert json.loads(database.execute("SELECT value FROM meta WHERE key = 'config'").fetchone()[0]) == {"a": 1}
    database.close()


def test_closing_folds_the_log_into_the_file_while_others_have_it_open(tmp_path: Path) -> None:
    writer = Record.create(tmp_path)
    with Record.open(tmp_path) as reader:
        writer.append(0, [loss(0)])
        assert (tmp_path / "record.sqlite-wal").stat().st_size > 0
        writer.close()
        assert (tmp_path / "record.sqlite-wal").stat().st_size == 0
        assert reader.last_step == 0
