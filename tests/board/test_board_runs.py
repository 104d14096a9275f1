"""The list of runs follows what is on the disk, and agrees with what records and monitors say themselves."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from board_runs import begin_run, readings, write_run

from edgescope.board import Runs
from edgescope.board.run_reader import RunReader
from edgescope.board.summary import RunSummary
from edgescope.errors import UnknownNameError
from edgescope.monitor.verdict import verdict_of
from edgescope.store import Record
from edgescope.store.opening import open_to_read
from edgescope.store.record import FILE


def only(runs: Runs) -> RunSummary:
    (row,) = runs.rows()
    return row


def test_a_run_in_progress_is_followed_to_its_end(tmp_path: Path) -> None:
    record = begin_run(tmp_path / "a", range(3))
    runs = Runs(tmp_path)
    assert only(runs).state == "not read yet"
    runs.read_changed()
    assert (only(runs).state, only(runs).step) == ("running", 2)
    version = runs.version
    runs.read_changed()
    assert runs.version == version
    for step in range(3, 40):
        record.append(step, readings(step))
        if step % 7 == 0:
            runs.read_changed()
    record.append(39, [readings(39)[0]], add=True)  # the last step may get more
    runs.read_changed()
    assert runs.rows(since=version) == [only(runs)]
    assert only(runs).step == 39
    assert only(runs).loss == readings(39)[0].values["train"]
    assert runs.scalars("a").equals(record.table().select("step", "measure", "part", "value"))
    assert (only(runs).regime, only(runs).sentences) == (verdict_of(record).regime, verdict_of(record).sentences)
    record.set_status("finished")
    record.close()
    runs.read_changed()
    assert only(runs).state == "finished"
    with Record.open(tmp_path / "a") as again:
        assert runs.scalars("a").equals(again.table().select("step", "measure", "part", "value"))
    runs.close()


def test_a_record_that_is_followed_is_sealed_when_it_is_closed(tmp_path: Path) -> None:
    for attempt in range(5):
        record = begin_run(tmp_path / str(attempt), range(300))
        runs = Runs(tmp_path / str(attempt))
        stop = threading.Event()

        def follow(runs: Runs = runs, stop: threading.Event = stop) -> None:
            while not stop.wait(0.005):
                for reader in runs._readers.values():
                    reader.read()

        thread = threading.Thread(target=follow)
        thread.start()
        time.sleep(0.05)
        record.close()
        stop.set()
        thread.join()
        opened = open_to_read(tmp_path / str(attempt) / FILE, touch=False)
        assert opened.checked.state == "whole"
        opened.close()


def test_a_long_run_is_shown_while_it_is_read(tmp_path: Path) -> None:
    with begin_run(tmp_path / "a", range(100)) as record:
        reader = RunReader(tmp_path / "a", tmp_path)
        heights: list[int] = []
        while not heights or reader.behind:
            contents = reader.read(most=160)
            heights.append(contents.scalars.height)
        assert len(heights) > 3
        assert heights == sorted(set(heights))
        assert contents.scalars.equals(record.table().select("step", "measure", "part", "value"))


def test_a_run_that_goes_back_is_read_again(tmp_path: Path) -> None:
    record = begin_run(tmp_path / "a", range(10))
    runs = Runs(tmp_path)
    runs.read_changed()
    record.remove_after(4)
    record.note(4, "resumed", "continued from step 4")
    for step in range(5, 20):
        record.append(step, [readings(0)[0]])
    runs.read_changed()
    assert runs.scalars("a").equals(record.table().select("step", "measure", "part", "value"))
    record.close()
    runs.close()


def test_runs_appear_and_disappear(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    assert runs.rows() == []
    write_run(tmp_path / "deep" / "a", [0])
    runs.look_for_runs()
    runs.read_changed()
    assert [(row.name, row.state) for row in runs.rows()] == [("deep/a", "finished")]
    version = runs.version
    (tmp_path / "deep" / "a" / FILE).unlink()
    runs.look_for_runs()
    assert runs.rows() == []
    assert runs.version > version
    with pytest.raises(UnknownNameError, match="no run 'deep/a' on this page"):
        runs.scalars("deep/a")


def test_a_damaged_record_is_a_row_that_says_so_and_hides_no_other(tmp_path: Path) -> None:
    write_run(tmp_path / "a", range(50))
    write_run(tmp_path / "b", [0])
    path = tmp_path / "a" / FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4000] = bytes(4000)
    path.write_bytes(content)
    runs = Runs(tmp_path)
    runs.read_changed()
    damaged, whole = runs.rows()
    assert (damaged.state, whole.state) == ("damaged", "finished")
    assert "damaged" in damaged.fault
    assert runs.scalars("a").is_empty()


def test_one_run_is_a_folder_too(tmp_path: Path) -> None:
    write_run(tmp_path / "alone", [0])
    runs = Runs(tmp_path / "alone")
    runs.read_changed()
    row = only(runs)
    assert (row.name, row.about, row.tags) == ("alone", "model mlp, lr 0.1", ("method=gd",))


def test_the_thread_reads_and_ends(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [0])
    runs = Runs(tmp_path)
    runs.start()
    while only(runs).state == "not read yet":
        time.sleep(0.01)
    runs.close()
    assert only(runs).state == "finished"
