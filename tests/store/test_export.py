"""What is exported reads back, by the programs that it is exported for, as what the record holds."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from edgescope.errors import MissingExtraError, RecordError, UnknownNameError
from edgescope.measures.reading import Reading
from edgescope.store import Record, export


def write(folder: Path, factor: float = 1.0) -> pl.DataFrame:
    with Record.create(folder) as record:
        for step in (0, 10, 20):
            pairs = Reading("eigenvalues", {"1": factor * step, "2": math.inf}, errors={"1": 1e-3}, note='a, "b"')
            record.append(step, [Reading("loss", {"": math.nan if step == 20 else 1 / 3}), pairs])
        record.append(30, [Reading("trace", {}, note="not today")])
        return record.table()


def read(path: Path) -> pl.DataFrame:
    if path.suffix == ".parquet":
        return pl.read_parquet(path)
    return pl.read_csv(path, schema_overrides={"part": pl.String, "note": pl.String}, empty_string_is_null=False)


@pytest.mark.parametrize("to", ["parquet", "csv"])
def test_a_run_as_a_table(tmp_path: Path, to: str) -> None:
    table = write(tmp_path / "run")
    for _ in range(2):  # a second export replaces the first
        path = export(tmp_path / "run", to)
        assert path == tmp_path / "run" / f"export.{to}"
        assert_frame_equal(read(path), table, check_exact=True)
    assert export(tmp_path / "run", to, out=tmp_path / "there" / f"x.{to}").read_bytes() == path.read_bytes()
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [f"export.{to}", "record.sqlite"]


@pytest.mark.parametrize("to", ["parquet", "csv"])
def test_several_runs_get_a_column_with_their_name(tmp_path: Path, to: str) -> None:
    tables = {f"runs/{name}": write(tmp_path / "runs" / name, factor) for name, factor in (("a", 1.0), ("b", 2.0))}
    got = read(export(tmp_path, to))
    assert got.columns[0] == "run"
    for run, table in tables.items():
        assert_frame_equal(got.filter(pl.col("run") == run).drop("run"), table, check_exact=True)
    assert len(got) == sum(map(len, tables.values()))


def test_tensorboard_reads_the_scalars(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for name in ("a", "b"):
        write(tmp_path / "runs" / name, factor=3.0)
    for _ in range(2):
        folder = export(tmp_path, "tensorboard")
    for name in ("a", "b"):
        logs = EventAccumulator(str(folder / "runs" / name)).Reload()
        assert logs.Tags()["scalars"] == ["loss", "eigenvalues/1", "eigenvalues/2"]
        assert [(e.step, e.value) for e in logs.Scalars("eigenvalues/1")] == [(0, 0.0), (10, 30.0), (20, 60.0)]
        assert [e.value for e in logs.Scalars("eigenvalues/2")] == [math.inf] * 3
        assert [math.isnan(e.value) for e in logs.Scalars("loss")] == [False, False, True]
    single = export(tmp_path / "runs" / "a", "tensorboard", out=tmp_path / "logs")
    assert EventAccumulator(str(single)).Reload().Scalars("loss")[0].value == pytest.approx(1 / 3)


def test_tensorboard_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgescope\[trackers\]'") as caught:
        export(tmp_path, "tensorboard")
    assert "\n" not in str(caught.value)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"'excel'.*parquet, csv, tensorboard"):
        export(tmp_path, "excel")
    with pytest.raises(RecordError, match="contains no record"):
        export(tmp_path)
    write(tmp_path / "run")
    with pytest.raises(RecordError, match="cannot read or write"):
        export(tmp_path / "run", out=tmp_path / "run" / "record.sqlite" / "x.parquet")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "record.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(RecordError, match=r"bad/record\.sqlite is damaged"):
        export(tmp_path)
