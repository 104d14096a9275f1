"""The command line as a whole: help, version, start-up, and every fault in one line with its exit code."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from said import Run

from edgescope import cli
from edgescope.cli.failure import guarded
from edgescope.errors import RecordError


def test_help_names_every_command_with_examples(run: Run) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        said = run(*arguments)
        assert said.code == 0
        assert all(f"\n  {name} " in said.out for name in cli.COMMANDS)
        assert "edgescope run edge" in said.out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself(run: Run, name: str) -> None:
    said = run(name, "--help")
    assert said.code == 0
    assert f"usage: edgescope {name}" in said.out
    assert f"  edgescope {name} " in said.out or f"  edgescope {name}\n" in said.out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_fits_into_80_columns(run: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    described, usage, rest = run(name, "--help").out.partition(f"usage: edgescope {name}")
    options, _, examples = rest.partition("Examples:")
    assert described
    assert f"\n  edgescope {name}" in examples
    assert max(map(len, [*described.splitlines(), usage, *options.splitlines()])) <= 80


def test_version(run: Run) -> None:
    assert run("--version").out == f"edgescope {importlib.metadata.version('edgescope')}\n"


def test_an_unknown_command_suggests_the_nearest(run: Run) -> None:
    assert "try 'edgescope train'" in run("tarin").refusal()
    assert "try 'edgescope --help'" in run("xyzzy").refusal()


def test_wrong_arguments_are_one_line_and_exit_with_2(run: Run) -> None:
    for words, arguments in {
        "missing argument: STUDY; try 'edgescope run --help'": ["run"],
        "missing argument: --objective; try": ["inspect", "model.pt"],
        "--to 'xls'; expected one of parquet, csv, tensorboard; try": ["export", "x", "--to", "xls"],
        "--lr 'fast'; expected a number; try 'edgescope train --help'": ["train", "--lr", "fast"],
        "--batch '1.5'; expected a whole number; try": ["train", "--batch=1.5"],
        "--lr without a value; try": ["train", "--lr"],
        "unexpected argument 'twice'; try": ["run", "edge", "twice"],
        "unknown option --nope; try 'edgescope list --help'": ["list", "--nope"],
        "unknown option --stepz; try --steps": ["train", "--stepz", "3"],
        "unknown option --stop-los; try --stop-loss": ["train", "--stop-los=3"],
    }.items():
        assert words in run(*arguments).refusal()


def test_a_rejected_argument_of_a_kind_unknown_to_us_is_one_line_too() -> None:
    from tyro import _errors as events

    from edgescope.cli.parsing import refusal

    event = events.ParseErrorEvent("edgescope train")
    assert str(refusal(event, "train", {}, [])) == "the arguments cannot be read; try 'edgescope train --help'"


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; from edgescope.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_the_module_can_be_run() -> None:
    said = subprocess.run([sys.executable, "-m", "edgescope", "lst"], capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("edgescope: unknown command 'lst'")


def test_a_reader_that_goes_away_is_no_fault() -> None:
    code = "import sys; from edgescope.cli import main; sys.exit(main(['--help']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait() == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_terminal_without_our_letters_shows_question_marks() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    said = subprocess.run([sys.executable, "-m", "edgescope", "η"], capture_output=True, env=environment)
    assert said.returncode == 2
    assert said.stderr.startswith(b"edgescope: unknown command '?'; ")


def test_faults_of_the_user_and_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    def failing(error: BaseException) -> tuple[int, str]:
        def work() -> int:
            raise error

        return guarded(work), capsys.readouterr().err

    assert failing(RecordError("the disk is full")) == (2, "edgescope: the disk is full\n")
    assert failing(KeyboardInterrupt()) == (130, "edgescope: interrupted\n")
    assert failing(BrokenPipeError()) == (141, "")
    full = OSError(errno.ENOSPC, "No space left on device", "runs/a/report.html")
    words = "edgescope: the disk is full while writing runs/a/report.html; try freeing space\n"
    assert failing(full) == (2, words)
    told = "parquet: File out of specification: underlying IO error: No space left on device (os error 28)"
    assert failing(RuntimeError(told)) == (2, words.replace("runs/a/report.html", "the output"))
    taken = OSError(errno.EROFS, "Read-only file system", "runs/a/report.html")
    code, line = failing(taken)
    assert code == 2
    assert line.startswith("edgescope: runs/a/report.html is on a read-only file system; try ")
    busy = OSError(errno.EBUSY, "Device or resource busy", "runs/a/report.html")
    assert failing(busy) == (2, "edgescope: cannot use runs/a/report.html: Device or resource busy\n")

    code, line = failing(ZeroDivisionError("one\ntwo"))
    assert code == 1
    assert line.startswith("edgescope: internal error: ZeroDivisionError: one two; please report it with ")
    assert line.count("\n") == 1
    found = re.search(r"report it with (.*)\n", line)
    assert found
    kept = Path(found[1])
    assert "in work" in kept.read_text()
    assert "ZeroDivisionError" in kept.read_text()
    kept.unlink()


def test_modules_of_the_user(run: Run, here: Path) -> None:
    (here / "users_bad.py").write_text("x = 1\nraise ValueError('not\\ntoday')\n")
    (here / "users_half.py").write_text("import users_missing_part\n")
    (here / "users_exit.py").write_text("raise SystemExit(3)\n")
    assert "no module 'users_nowhere'" in run("list", "models", "--module", "users_nowhere").refusal()
    assert "no module 'users_bad.py'" not in run("list", "models", "--module=users_bad").refusal()
    line = run("list", "models", "--module", "users_bad").refusal()
    assert "users_bad" in line
    assert "ValueError: not today" in line
    assert "line 2" in line
    assert "users_missing_part" in run("list", "models", "--module", "users_half").refusal()
    assert "SystemExit" in run("list", "models", "--module", "users_exit").refusal()
    assert "dotted name" in run("list", "models", "--module", "some/file.py").refusal()
