"""Folders whose study.json or sweep.json is damaged, lost, or was being written when the process was killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from said import Run
from warm_process import WarmProcess

SWEEP = (
    *("sweep", "--data", "digits:train=20,test=10", "--model", "mlp:widths=4", "--lr", "0.1,0.2", "--steps", 20),
    *("--threads", 1, "--path", "kept", "--stop-loss", 0.5, "--jobs", 1, "--out", "s"),
)
CONTENTS = [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000]


def check(run: Run, command: tuple[object, ...], file: Path) -> None:
    assert run(*command).code == 0
    whole = file.read_bytes()
    for content in CONTENTS:
        file.write_bytes(content)
        for other in ((*command, "--resume"), ("report", "s")):
            line = run(*other).refusal()
            assert line.startswith(f"edgescope: s/{file.name} is damaged; expected a JSON object"), (content, line)
        assert file.read_bytes() == content
    file.unlink()  # as the hint says
    assert "not empty; try --resume" in run(*command).refusal()
    assert run(*command, "--resume").code == 0
    assert file.read_bytes() == whole
    before = file.stat()
    assert run(*command, "--resume").code == 0
    after = file.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)  # not written again


def test_of_a_study(run: Run, users_study: str, here: Path) -> None:
    check(run, ("run", "small", "--module", users_study, "--jobs", 1, "--out", "s"), here / "s/study.json")


@pytest.mark.slow
def test_of_a_sweep(run: Run, here: Path) -> None:
    check(run, SWEEP, here / "s/sweep.json")


@pytest.mark.slow
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_killed_while_it_is_written(
    run: Run, here: Path, call: str, users_python: WarmProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kill = f"import os\nos.{call} = lambda *arguments: os.kill(os.getpid(), 9)\nfrom edgescope.cli import main\n"
    command = [str(word) for word in SWEEP]
    program = tmp_path_factory.mktemp("program") / "killed.py"
    program.write_text(f"{kill}main({command!r})\n")
    users_python.begin("file", str(here), str(program))
    assert users_python.code() == -signal.SIGKILL
    left, owner = sorted((here / "s").iterdir())
    assert left.name.endswith(".part")
    assert owner.name == "owner.lock"
    assert run(*SWEEP).code == 0  # nothing had begun: no need for --resume
    assert not left.exists()


def test_a_folder_of_something_else_is_not_taken_for_one(run: Run, users_study: str, here: Path) -> None:
    (here / "s" / "runs").mkdir(parents=True)
    (here / "s" / "sweep.json").write_text("{}")
    line = run("run", "small", "--module", users_study, "--jobs", 1, "--out", "s", "--resume").refusal()
    assert "s contains no study that can be resumed" in line
    assert not (here / "s" / "study.json").exists()
    (here / "s" / "sweep.json").rename(here / "s" / "study.json")
    assert "s does not hold a sweep with these options" in run(*SWEEP, "--resume").refusal()
