"""What a warm process carries out fails where it would have failed alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from two_workers import run_two_workers
from warm_process import WarmProcess


def test_a_program_runs_alone_and_its_warnings_and_codes_are_errors(users_python: WarmProcess, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import os, json\njson.mine = 1\nprint(os.getcwd(), os.getpid())")
    where, process = users_python.run("file", str(tmp_path), str(program)).split()
    assert where == str(tmp_path)
    assert int(process) not in (os.getpid(), users_python.process.pid)
    for text, said in (
        ("import json\njson.mine", "has no attribute 'mine'"),
        ("import warnings\nwarnings.warn('once')", "UserWarning: once"),
        ("raise SystemExit(3)", None),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", None),
    ):
        program.write_text(text)
        with pytest.raises(AssertionError, match=said):
            users_python.run("file", str(tmp_path), str(program))


def test_a_module_gets_its_arguments(users_python: WarmProcess, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import sys\nprint(__name__, sys.argv[1:])")
    assert users_python.run("module", str(tmp_path), "own", "a", "--b") == "__main__ ['a', '--b']\n"


@pytest.mark.parametrize("rank", [0, 1])
def test_one_of_two_workers_that_fails_is_an_error(rank: int, users_python: WarmProcess, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="only this one"):
        run_two_workers(
            users_python, f"import sys\nif sys.argv[1] == '{rank}': raise ValueError('only this one')", tmp_path
        )
