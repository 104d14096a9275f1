"""One process writes to a run: a second one is told who does, and one that has ended is taken over from."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from other_process import holding_lock

from edgescope.errors import RecordError
from edgescope.process_identity import machine, start_of
from edgescope.store import lock as locks
from edgescope.store.lock import FILE, STALE_SECONDS, RunLock, holder_of


def refusal(folder: Path) -> str:
    with pytest.raises(RecordError) as caught:
        RunLock(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewrite(path: Path, **changes: str | int) -> None:
    """A lock as another process would have written it."""
    owner, _, _ = path.read_bytes().partition(b"\n")
    owner = json.dumps(json.loads(owner) | changes).encode() + b"\n"
    path.write_bytes(owner + locks._line(owner, 3))


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_it_is_held_until_released(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    held = RunLock(tmp_path)
    held.committed(41)
    holder = holder_of(tmp_path)
    assert holder is not None
    assert (holder.pid, holder.commits, holder.alive) == (os.getpid(), 41, True)
    assert "closing the record" in refusal(tmp_path)
    held.release()
    held.release()
    assert holder_of(tmp_path) is None
    again = RunLock(tmp_path)
    assert again.stale is None
    held.release()  # of a lock that is no longer its own
    assert holder_of(tmp_path)
    again.release()
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_is_told_who_writes_and_takes_over_once_that_is_gone(tmp_path: Path) -> None:
    with holding_lock(tmp_path, commits=7) as process:
        line = refusal(tmp_path)
        assert f"{tmp_path} is being written by process {process.pid} on {os.uname().nodename} since 2" in line
        process.send_signal(signal.SIGKILL)
        process.wait()  # it is no zombie any more
        taken = RunLock(tmp_path)
        assert taken.stale is not None
        assert (taken.stale.pid, taken.stale.commits) == (process.pid, 7)
        taken.release()


def test_a_zombie_has_ended(tmp_path: Path) -> None:
    with holding_lock(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        while start_of(process.pid) is not None:  # killed, and not yet waited for
            time.sleep(0.01)
        RunLock(tmp_path).release()


def test_a_later_process_of_the_same_id_is_another_one(tmp_path: Path) -> None:
    held = RunLock(tmp_path)
    rewrite(tmp_path / FILE, start="1")
    holder = holder_of(tmp_path)
    assert holder is not None
    assert not holder.alive
    RunLock(tmp_path).release()
    held.release()


def test_on_another_machine_it_is_the_last_touch_that_counts(tmp_path: Path) -> None:
    for other in ({"machine": "elsewhere", "host": "node7"}, {"machine": f"{machine()}0", "host": "node7"}):
        RunLock(tmp_path)  # not released: as a process leaves it that is killed
        rewrite(tmp_path / FILE, pid=1, **other)
        age(tmp_path / FILE, 30)
        line = refusal(tmp_path)
        assert re.search(r"process 1 on node7 since 2\S+, its lock touched 3\d s ago", line)
        assert re.search(r"try again in \d\d s, or removing \S+record\.lock if that process has ended", line)
        age(tmp_path / FILE, STALE_SECONDS + 1)
        taken = RunLock(tmp_path)
        assert taken.stale is not None
        assert taken.stale.host == "node7"
        taken.release()


def test_a_clock_that_goes_backwards_makes_no_lock_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with holding_lock(tmp_path):
        for seconds in (-1e6, -100.0, 100.0, 1e6):  # of this machine: the process is asked for, not the clock
            now = time.time() + seconds
            monkeypatch.setattr(time, "time", lambda now=now: now)
            assert "is being written by" in refusal(tmp_path)
            monkeypatch.undo()
        rewrite(tmp_path / FILE, machine="elsewhere")
        age(tmp_path / FILE, -3600)  # touched in the future, by the clock here
        assert "touched 0 s ago" in refusal(tmp_path)
        os.utime(tmp_path / FILE)
        later = time.time() + 1e6
        monkeypatch.setattr(time, "time", lambda: later)  # here, and not where the files are
        assert "is being written by" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 300, b'{"pid": 1}\n00000000000000000001 00000000\n'])
def test_a_lock_that_cannot_be_read_is_stale_when_nobody_touches_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert "a process that its lock does not name" in refusal(tmp_path)
    age(tmp_path / FILE, STALE_SECONDS + 1)
    RunLock(tmp_path).release()


def test_every_flipped_bit_of_a_lock_is_seen(tmp_path: Path) -> None:
    held = RunLock(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    held.release()
    for position in range(8 * len(whole)):
        content = bytearray(whole)
        content[position // 8] ^= 1 << position % 8
        (tmp_path / FILE).write_bytes(content)
        holder = holder_of(tmp_path)
        assert holder is not None
        assert holder.pid == 0


def test_a_link_in_its_place_is_neither_followed_nor_taken_for_a_lock(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    age(tmp_path / "precious", STALE_SECONDS + 1)
    (tmp_path / "run").mkdir()
    for target in ("precious", "nowhere"):
        (tmp_path / "run" / FILE).symlink_to(tmp_path / target)
        assert "is a symbolic link" in refusal(tmp_path / "run")
        (tmp_path / "run" / FILE).unlink()
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


def test_nobody_removes_the_lock_of_who_was_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunLock(tmp_path)  # not released: as a process leaves it that is killed
    rewrite(tmp_path / FILE, start="1")
    got: list[RunLock] = []
    other: list[threading.Thread] = []
    real = locks._named_in

    def take() -> None:
        with contextlib.suppress(RecordError):
            got.append(RunLock(tmp_path))

    def named(descriptor: int, now: float | None = None) -> locks.Holder:
        found = real(descriptor, now)
        if now is not None and not other:  # found stale, about to be removed: another one does so at this moment
            other.append(threading.Thread(target=take))
            other[0].start()
            other[0].join(0.5)
        return found

    monkeypatch.setattr(locks, "_named_in", named)
    take()
    other[0].join()
    assert len(got) == 1
    assert os.fstat(got[0]._descriptor).st_nlink == 1
    got[0].release()


def test_of_many_who_find_it_stale_one_gets_it(tmp_path: Path) -> None:
    for _ in range(20):
        with_start = RunLock(tmp_path)
        rewrite(tmp_path / FILE, start="1")
        got: list[RunLock] = []
        together = threading.Barrier(6)

        def take(got: list[RunLock] = got, together: threading.Barrier = together) -> None:
            together.wait()
            with contextlib.suppress(RecordError):
                got.append(RunLock(tmp_path))

        threads = [threading.Thread(target=take) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1
        got[0].check()
        got[0].release()
        with_start.release()


def test_who_has_lost_it_is_told_and_who_had_it_removed_makes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "CHECK_SECONDS", 0.0)
    held = RunLock(tmp_path)
    held.check()
    (tmp_path / FILE).unlink()  # by hand
    held.check()
    assert holder_of(tmp_path)
    rewrite(tmp_path / FILE, machine="elsewhere")
    age(tmp_path / FILE, STALE_SECONDS + 1)
    other = RunLock(tmp_path)
    with pytest.raises(RecordError, match=r"was taken over by process \d+"):
        held.check()
    held.release()
    assert holder_of(tmp_path)
    other.release()


def test_a_forked_process_neither_writes_nor_releases(tmp_path: Path) -> None:
    held = RunLock(tmp_path)
    child = os.fork()
    if not child:
        try:
            held.check()
        except RecordError:
            held.release()
            os._exit(17)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
    assert holder_of(tmp_path)
    held.check()
    held.release()


def test_it_is_touched_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(locks, "_heart", locks._Heart())
    held = RunLock(tmp_path)
    age(tmp_path / FILE, 1e6)
    until = time.monotonic() + 60
    while (tmp_path / FILE).stat().st_mtime < time.time() - 1e3 and time.monotonic() < until:
        time.sleep(0.01)
    holder = holder_of(tmp_path)
    assert holder is not None
    assert holder.untouched < 1e3
    held.release()
    while locks._heart.thread is not None and time.monotonic() < until:
        time.sleep(0.01)
    assert locks._heart.thread is None  # the thread ends with the last lock
