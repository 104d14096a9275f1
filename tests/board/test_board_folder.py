"""Nothing outside the folder of the page is read, and nothing in it is written."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path

import pytest
from board_runs import begin_run, files, get, write_run

from edgescope.board import Runs, make_app
from edgescope.board.folder import is_inside, runs_inside, stamp_of
from edgescope.board.run_reader import RunReader
from edgescope.store.record import FILE


def test_links_that_lead_out_are_no_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "secret")
    write_run(tmp_path / "shown" / "own")
    (tmp_path / "shown" / "linked").symlink_to(tmp_path / "secret", target_is_directory=True)
    (tmp_path / "shown" / "file").mkdir()
    (tmp_path / "shown" / "file" / FILE).symlink_to(tmp_path / "secret" / FILE)
    write_run(tmp_path / "shown" / "log")
    (tmp_path / "shown" / "log" / f"{FILE}-wal").symlink_to(tmp_path / "secret" / FILE)
    assert list(runs_inside(tmp_path / "shown")) == ["own"]


def test_a_folder_that_becomes_a_link_is_not_followed(tmp_path: Path) -> None:
    write_run(tmp_path / "secret", [0])
    write_run(tmp_path / "shown" / "own", [0])
    reader = RunReader(tmp_path / "shown" / "own", tmp_path / "shown")
    assert reader.read().state == "finished"
    (tmp_path / "shown" / "own").rename(tmp_path / "away")
    (tmp_path / "shown" / "own").symlink_to(tmp_path / "secret", target_is_directory=True)
    found = reader.read()
    assert found.state == "damaged"
    assert "leads out of" in found.fault
    assert found.scalars.is_empty()


def test_a_folder_that_is_itself_a_link_is_shown(tmp_path: Path) -> None:
    write_run(tmp_path / "there" / "own", [0])
    (tmp_path / "link").symlink_to(tmp_path / "there", target_is_directory=True)
    assert list(runs_inside(tmp_path / "link")) == ["own"]
    assert is_inside(tmp_path / "link" / "own", tmp_path / "link")


ESCAPES = [
    "../secret",
    "own/../../secret",
    "/etc/passwd",
    "..",
    ".",
    "",
    "own/record.sqlite",
    "own\0",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("name", ESCAPES)
def test_no_address_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "secret", [0])
    write_run(tmp_path / "shown" / "own", [0])
    app = make_app(Runs(tmp_path / "shown"))
    asked = get(app, "/panels", query="run=" + urllib.parse.quote(name, safe=""))
    assert asked.status == 400
    for path in (
        f"/{name}",
        f"/board.css/{name}",
        f"//{name}",
        "/%2e%2e/secret",
        "/page.html",
        "/app.py",
        "/own/record.sqlite",
    ):
        assert get(app, path).status == (200 if path == "/" else 404), path


def test_reading_writes_nothing(tmp_path: Path) -> None:
    write_run(tmp_path / "ended", [0, 1], spectrum=True)
    with begin_run(tmp_path / "living", [0, 1]):
        for path in (tmp_path / "living").iterdir():  # as a killed process leaves it
            (tmp_path / "killed").mkdir(exist_ok=True)
            (tmp_path / "killed" / path.name).write_bytes(path.read_bytes())
    os.unlink(tmp_path / "killed" / "record.lock")
    (tmp_path / "killed" / f"{FILE}-shm").unlink()
    before = files(tmp_path)
    runs = Runs(tmp_path)
    runs.read_changed()
    states = {row.name: (row.state, row.step) for row in runs.rows()}
    assert states == {"ended": ("finished", 1), "killed": ("abandoned", 1), "living": ("abandoned", 1)}
    for name in runs.names:
        assert get(make_app(runs), "/panels", query=f"run={name}").status == 200
    runs.close()
    assert files(tmp_path) == before


def test_the_stamp_changes_with_the_record_and_not_with_a_look_at_it(tmp_path: Path) -> None:
    with begin_run(tmp_path / "run", [0]) as record:
        before = stamp_of(tmp_path / "run")
        os.utime(tmp_path / "run" / "record.lock")
        assert stamp_of(tmp_path / "run") == before
        record.append(1, [])
        appended = stamp_of(tmp_path / "run")
        assert appended != before
    assert stamp_of(tmp_path / "run") != appended
    assert stamp_of(tmp_path / "nothing") == stamp_of(tmp_path / "nowhere")
