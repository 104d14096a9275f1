"""How a run stands: running while a process writes, ended by exceptions, abandoned when killed, resumed."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from other_process import holding_lock

from edgescope.errors import EdgescopeWarning, InputError, RecordError
from edgescope.measures.reading import Reading
from edgescope.store import Record, latest_checkpoint, save_checkpoint, writing
from edgescope.store import lock as locks
from edgescope.store.verify import verify


def loss(step: int) -> Reading:
    return Reading("loss", {"": 1.0 / (step + 1)})


def state(folder: Path) -> str:
    with Record.open(folder) as record:
        return record.state


def test_a_run_is_running_while_its_process_writes_and_abandoned_after(tmp_path: Path) -> None:
    with Record.create(tmp_path) as record:
        assert record.state == state(tmp_path) == "running"
    assert state(tmp_path) == "abandoned"  # nobody said how it ended
    with Record.open(tmp_path) as record:
        assert record.status == "running"  # what is stored stays
    with Record.resume(tmp_path) as record:
        record.set_status("finished")
        assert state(tmp_path) == "finished"
    assert state(tmp_path) == "finished"


def end_block_by(record: Record, error: BaseException) -> None:
    with record:
        raise error


@pytest.mark.parametrize(
    ("error", "expected"),
    [(ValueError("x"), "failed"), (KeyboardInterrupt(), "interrupted"), (SystemExit(1), "failed")],
)
def test_a_block_that_ends_by_an_exception(tmp_path: Path, error: BaseException, expected: str) -> None:
    with pytest.raises(type(error)):
        end_block_by(Record.create(tmp_path), error)
    assert state(tmp_path) == expected
    with pytest.raises(type(error)):  # who only reads changes nothing
        end_block_by(Record.open(tmp_path), error)
    assert state(tmp_path) == expected
    record = Record.resume(tmp_path)
    record.set_status("diverged")
    with pytest.raises(type(error)):
        end_block_by(record, error)
    assert state(tmp_path) == "diverged"  # which it said itself


def test_a_run_that_is_continued_is_running_again(tmp_path: Path) -> None:
    with Record.create(tmp_path, config={"lr": 0.1, "widths": (3, 4)}) as record:
        for step in range(8):
            record.append(step, [loss(step)])
        record.set_status("interrupted")
    with Record.resume(tmp_path, config={"lr": 0.1, "widths": [3, 4]}) as record:
        assert (record.status, record.state) == ("running", "running")
        record.append(8, [loss(8)])
        record.set_status("interrupted")
    with Record.resume(tmp_path, step=4) as record:
        events = record.events().select("step", "kind", "text").rows()
        record.set_status("finished")
    assert events == [(4, "resumed", "continued from step 4"), (7, "resumed", "continued from step 7")]
    with pytest.raises(RecordError, match=r"has lr = 0.1, not 0.2; expected the configuration it was started with"):
        Record.resume(tmp_path, config={"lr": 0.2, "widths": [3, 4]})
    with Record.resume(tmp_path) as record:  # it has ended, and is left as it is
        assert record.status == "finished"
        assert record.events().height == 2
    with Record.resume(tmp_path, extend=True) as record:
        assert record.status == "running"
        assert record.events().height == 3
    with pytest.raises(RecordError, match="contains no record"):
        Record.resume(tmp_path / "nowhere")


def test_a_second_writer_is_told_who_writes_and_readers_are_not_kept_out(tmp_path: Path) -> None:
    with Record.create(tmp_path) as record:
        record.append(0, [loss(0)])
        with Record.open(tmp_path) as other:
            assert other.last_step == 0
            for write in (other.claim, lambda: other.append(1, []), lambda: other.set_status("finished")):
                with pytest.raises(RecordError, match=rf"is being written by process {os.getpid()}") as caught:
                    write()
                assert "\n" not in str(caught.value)
            record.append(1, [loss(1)])
            assert other.last_step == 1
        with pytest.raises(RecordError, match="is being written by"):
            Record.resume(tmp_path)
        with pytest.raises(RecordError, match="is being written by"):
            Record.create(tmp_path, overwrite=True)
        record.append(2, [loss(2)])
    with Record.resume(tmp_path) as other:
        assert other.last_step == 2


def test_another_process_is_named_and_taken_over_from_once_killed(tmp_path: Path) -> None:
    Record.create(tmp_path / "run").close()
    with holding_lock(tmp_path / "run") as process:
        assert state(tmp_path / "run") == "running"
        with pytest.raises(RecordError, match=rf"process {process.pid} on .* since"):
            Record.resume(tmp_path / "run")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert state(tmp_path / "run") == "abandoned"
        with Record.resume(tmp_path / "run") as record:
            kinds = dict(record.events().select("kind", "text").iter_rows())
    assert kinds.keys() == {"lock", "resumed"}
    assert kinds["lock"].startswith(f"taken over from process {process.pid} on ")


def test_commits_that_a_lock_has_counted_and_the_record_lacks_are_told(tmp_path: Path) -> None:
    Record.create(tmp_path).close()
    with holding_lock(tmp_path, commits=6):
        pass
    with pytest.warns(EdgescopeWarning, match="its last 6 commits are lost"):
        assert state(tmp_path) == "abandoned"
    with pytest.warns(EdgescopeWarning, match="its last 6 commits are lost"):
        record = Record.resume(tmp_path)
    with record:
        assert record.events()["kind"].to_list() == ["damage", "lock", "resumed"]
    assert state(tmp_path) == "abandoned"


def test_a_lock_on_another_machine_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Record.create(tmp_path).close()
    with holding_lock(tmp_path):
        owner, _, _ = (tmp_path / locks.FILE).read_bytes().partition(b"\n")
        owner = json.dumps(json.loads(owner) | {"machine": "elsewhere", "host": "node7"}).encode() + b"\n"
        (tmp_path / locks.FILE).write_bytes(owner + locks._line(owner, 0))
        assert state(tmp_path) == "running"
        with pytest.raises(RecordError, match=r"on node7 since .*its lock touched \d s ago; try again in \d+ s"):
            Record.resume(tmp_path)
        monkeypatch.setattr(locks, "STALE_SECONDS", 0.0)
        assert state(tmp_path) == "abandoned"
        Record.resume(tmp_path).close()


def test_a_record_that_nobody_closes_is_let_go_of(tmp_path: Path) -> None:
    record = Record.create(tmp_path)
    record.append(0, [loss(0)])
    assert (tmp_path / locks.FILE).exists()
    del record
    gc.collect()
    assert not (tmp_path / locks.FILE).exists()
    with Record.resume(tmp_path) as again:
        assert again.last_step == 0
    code = f"from edgescope.store import Record\nrecord = Record.resume({str(tmp_path)!r})\nrecord.append(1, [])"
    subprocess.run([sys.executable, "-c", code], check=True)  # one that just ends
    assert not (tmp_path / locks.FILE).exists()
    with Record.open(tmp_path) as again:
        assert (again.last_step, again.state) == (1, "abandoned")


def test_a_clock_that_goes_backwards_keeps_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(f"{2030 - number}-01-01T00:00:00.000+00:00" for number in range(100))
    monkeypatch.setattr(writing, "now", lambda: next(times))
    with Record.create(tmp_path) as record:
        for kind in ("a", "b", "c"):
            record.note(5, kind, "x")
        assert record.events()["kind"].to_list() == ["a", "b", "c"]
        assert record.events()["time"].to_list() == sorted(record.events()["time"], reverse=True)
    assert [one.verdict for one in verify(tmp_path)] == ["whole"]


def test_a_link_in_place_of_the_record_is_not_written_through(tmp_path: Path) -> None:
    with Record.create(tmp_path / "mine") as record:
        record.append(0, [loss(0)])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.sqlite").symlink_to(tmp_path / "mine" / "record.sqlite")
    before = (tmp_path / "mine" / "record.sqlite").read_bytes()
    with Record.open(tmp_path / "run") as record:
        assert record.last_step == 0
        with pytest.raises(RecordError, match="is a symbolic link, which is not written to"):
            record.append(1, [loss(1)])
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "mine")
    with pytest.raises(RecordError, match="run/checkpoints is a symbolic link to another folder"):
        save_checkpoint(tmp_path / "run", 0, {}, {})
    assert (tmp_path / "mine" / "record.sqlite").read_bytes() == before
    with Record.create(tmp_path / "run", overwrite=True) as record:  # the link itself is replaced
        record.append(5, [])
    assert (tmp_path / "mine" / "record.sqlite").read_bytes() == before


def test_a_damaged_checkpoint_is_an_event(tmp_path: Path) -> None:
    with Record.create(tmp_path) as record:
        assert record.latest_checkpoint() is None
        for step in (1, 2):
            save_checkpoint(tmp_path, step, {}, {})
        assert record.latest_checkpoint() == latest_checkpoint(tmp_path)
        assert record.events().is_empty()
        path = tmp_path / "checkpoints" / "step-0000000002.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\n")
        before = record.fingerprint()
        with pytest.warns(EdgescopeWarning, match="step-0000000001.safetensors was taken instead"):
            found = record.latest_checkpoint()
        assert found is not None
        assert record.events().select("step", "kind", "text").rows() == [(1, "checkpoint", found.notice)]
        assert record.fingerprint() == before


def test_what_another_process_appends_to_a_closed_record_is_checked(tmp_path: Path) -> None:
    with Record.create(tmp_path) as record:
        record.append(0, [loss(0)])
    with Record.open(tmp_path) as reader:
        assert reader.last_step == 0
        with Record.resume(tmp_path) as record:
            record.append(1, [loss(1)])
            assert reader.series("loss")[1].tolist() == [1.0, 0.5]
            record._database.execute("UPDATE value SET value = 0.25 WHERE step = 1")
            with pytest.raises(RecordError, match=r"of step 1 .* is not as it was written"):
                reader.series("loss")
    with pytest.raises(RecordError, match="is damaged"):
        Record.resume(tmp_path)


def test_in_memory_it_does_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record = Record.in_memory({"lr": 0.1})
    record.append(0, [loss(0)], [("stopped", "x")])
    record.append(0, [loss(1)], add=True)
    record.set_info("a", 1)
    assert (record.config, record.info, record.status, record.state) == ({"lr": 0.1}, {"a": 1}, "running", "running")
    assert record.series("loss")[1].tolist() == [0.5]
    record.close()
    with pytest.raises(RecordError, match="closed"):
        record.append(1, [])
    assert list(tmp_path.iterdir()) == []


def test_bad_input(tmp_path: Path) -> None:
    with Record.create(tmp_path) as record, pytest.raises(InputError, match="configuration cannot be stored"):
        record.require({"x": object()})
