"""More records at once than a process may have files open."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgescope.errors import RecordError
from edgescope.measures.reading import Reading
from edgescope.store import Record, reading

MANY = """
import resource, sys
from pathlib import Path
from edgescope.store import Record, export
resource.setrlimit(resource.RLIMIT_NOFILE, (110, 110))
folders = sorted(Path(sys.argv[1]).iterdir())
records = [Record.open(folder) for folder in folders]
for _ in range(2):
    assert [record.series("loss")[1][-1] for record in records] == [3.0] * 120
for record in records:
    record.close()
print(export(sys.argv[1], "csv").stat().st_size)
"""


def write(folder: Path, value: float = 1.0) -> None:
    with Record.create(folder) as record:
        record.append(0, [Reading("loss", {"": 0.5})])
        record.append(1, [Reading("loss", {"": value})])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize("closed", [True, False])
def test_more_records_than_files(tmp_path: Path, closed: bool) -> None:
    """Closed ones have one file each, those of a killed process three."""
    write(tmp_path / "one")
    record = Record.open(tmp_path / "one")
    record.append(1, [Reading("loss", {"": 3.0})])
    killed = {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir() if file.suffix != ".lock"}
    record.close()
    for number in range(120):
        folder = tmp_path / "runs" / f"{number:03d}"
        folder.mkdir(parents=True)
        whole = {"record.sqlite": (tmp_path / "one" / "record.sqlite").read_bytes()}
        for name, content in (whole if closed else killed).items():
            (folder / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(tmp_path / "runs")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 120 * 2 * 10


def test_a_record_that_let_go_of_its_file_reads_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_OPEN", 2)
    for number in range(4):
        write(tmp_path / str(number), float(number))
    records = [Record.open(tmp_path / str(number)) for number in range(4)]
    for record in records:
        assert record.last_step == 1
    assert [record._reader._opened is None for record in records] == [True, True, False, False]
    with Record.open(tmp_path / "0") as writer:  # meanwhile it goes on
        writer.append(2, [Reading("loss", {"": 7.0})])
        assert records[0].series("loss")[1].tolist() == [0.5, 0.0, 7.0]
    records[1].append(2, [Reading("loss", {"": 8.0})])
    assert records[1].series("loss")[1].tolist() == [0.5, 1.0, 8.0]
    with records[2]._reader.reading() as held:
        for record in (records[0], records[3], records[0]):
            assert record.config == {}
        assert held.execute("SELECT count(*) FROM step").fetchone() == (2,)  # one in use is not closed
    path = tmp_path / "3" / "record.sqlite"
    assert records[0].status == records[2].status == "running"
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(RecordError, match="damaged"):
        _ = records[3].config
    for record in records:
        record.close()
        with pytest.raises(RecordError, match="the record is closed"):
            _ = record.config


def test_threads_that_read_more_records_than_are_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_OPEN", 2)
    for number in range(6):
        write(tmp_path / str(number), float(number))
    wrong: list[object] = []

    def read(first: int) -> None:
        records = [Record.open(tmp_path / str(number)) for number in range(6)]  # a thread reads records of its own
        for turn in range(60):
            number = (first + turn) % 6
            try:
                found = records[number].series("loss")[1].tolist()
                wrong.extend([] if found == [0.5, float(number)] else [found])
            except Exception as error:
                wrong.append(error)
        for record in records:
            record.close()

    threads = [threading.Thread(target=read, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
