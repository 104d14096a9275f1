"""``edgescope train``, ``run``, ``report`` and ``export`` on runs of a second: results, refusals, Ctrl-C, resuming."""

from __future__ import annotations

import shlex
from pathlib import Path

import polars as pl
import pytest
from said import Run, Said

from edgescope.monitor import verdict_of
from edgescope.report import read_findings
from edgescope.store import Record

SMALL = ("--data", "digits", "--model", "mlp:widths=4", "--train", 40, "--test", 10, "--every", 5, "--threads", 1)


def again(said: Said) -> list[str]:
    """The arguments of the one command that an interrupted command says to continue with."""
    assert said.code == 130, said
    (command,) = [line for line in said.err.splitlines() if line.startswith("  edgescope ")]
    return shlex.split(command)[1:]


def test_a_run_is_trained_and_exported(run: Run, here: Path) -> None:
    said = run("train", *SMALL, "--lr", 0.1, "--steps", 10, "--measures", "loss", "sharpness:k=2", "norms", "ratio")
    assert said.code == 0, said
    folder = here / "runs" / "digits-mlp-sgd-0.1"
    assert said.out.startswith("finished after 10 steps\n")
    with Record.open(folder) as record:
        assert record.config["measures"] == ["loss", "sharpness:k=2", "norms", "ratio"]
        assert record.last_step == 10
        loss = record.series("loss", "train")[1][-1]
        rows = record.table().height
        found = verdict_of(record)
    assert f"{loss:.5g} at step 10" in said.out
    assert f"regime at the end: {found.regime}" in said.out
    assert found.sentences[0] in " ".join(said.out.split())
    assert f"record: {folder.relative_to(here)}" in said.out

    assert "already contains a record" in run("train", *SMALL, "--lr", 0.1, "--steps", 10).refusal()

    assert run("export", folder, "--to", "csv", "--out", "a.csv").out == "a.csv\n"
    assert pl.read_csv("a.csv").height == rows
    assert run("export", folder, "--to", "parquet").out == f"{folder}/export.parquet\n"


def test_runs_are_reported_without_verdicts_and_one_that_diverged_is_a_result(run: Run, here: Path) -> None:
    names = ("loss", "sharpness:k=2", "norms", "ratio")
    assert run("train", *SMALL, "--lr", 0.1, "--steps", 10, "--out", "a/well", "--measures", *names).code == 0
    said = run("train", *SMALL, "--lr", 1e3, "--steps", 20, "--out", "a/lost", "--measures", *names)
    assert said.code == 0
    assert said.out.startswith("diverged after ")
    assert "diverged at step" in said.out
    with Record.open("a/lost") as record:
        assert record.status == "diverged"

    assert run("report", "a").out == "a/report.html\n"
    page = (here / "a" / "report.html").read_text()
    assert "2 training runs" in page
    assert ">well<" in page
    assert ">diverged<" in page
    assert 'id="verdicts"' not in page
    pictures = {path.stem for path in (here / "a" / "figures").glob("*.png")}
    assert pictures == {"loss", "eigenvalues", "ratio", "norms", "norms-l2", "layers"}
    assert not (here / "a" / "findings.json").exists()


def test_an_interrupted_run_continues_to_the_same_record(run: Run, users_study: str, here: Path) -> None:
    options = [*SMALL, "--model", "users-linear", "--lr", 0.1, "--steps", 20, "--module", users_study]
    options += ["--measures", "loss", "sharpness", "interrupting"]
    assert run("train", *options, "--out", "whole").code == 0
    Path("armed").touch()
    said = run("train", *options, "--out", "halved")
    arguments = again(said)
    with Record.open("halved") as record:
        assert (record.status, record.last_step) == ("interrupted", 10)
    assert arguments[0] == "train"
    assert run(*arguments).code == 0
    with Record.open("whole") as whole, Record.open("halved") as halved:
        assert halved.status == "finished"
        assert halved.fingerprint() == whole.fingerprint()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--lr 0", "lr=0;"),
        ("--lr inf", "lr=inf"),
        ("--lr nan", "lr=nan"),
        ("--lr -1", "lr=-1;"),
        ("--steps 0", "steps=0"),
        ("--data digitz", "try 'digits'"),
        ("--model mpl", "try 'mlp'"),
        ("--model mlp:width=3", "try 'widths='"),
        ("--model mlp:activation=rellu", "try 'relu'"),
        ("--loss mes", "try 'mse'"),
        ("--optimizer adamm", "try 'adam'"),
        ("--measures sharpnes", "try 'sharpness'"),
        ("--measures users-own --module users_nowhere", "no module 'users_nowhere'"),
    ],
)
def test_configurations_that_cannot_be_used(run: Run, here: Path, options: str, words: str) -> None:
    assert words in run("train", *options.split(), "--out", "a").refusal()
    assert not (here / "a").exists()


def test_folders_that_cannot_be_used(run: Run, here: Path) -> None:
    (here / "file").write_text("in the way")
    (here / "full").mkdir()
    (here / "full" / "notes.txt").write_text("mine")
    (here / "empty").mkdir()
    (here / "broken").mkdir()
    (here / "broken" / "record.sqlite").write_bytes(b"SQLite format 3\0" + b"garbage" * 999)
    assert "file/a" in run("train", *SMALL, "--lr", 0.1, "--steps", 2, "--out", "file/a").refusal()
    assert "file is a file" in run("run", "edge", "--out", "file").refusal()
    assert "--resume" in run("run", "edge", "--out", "full").refusal()
    assert "no study that can be resumed" in run("run", "edge", "--out", "full", "--resume").refusal()
    assert (here / "full" / "notes.txt").read_text() == "mine"
    assert "no folder missing" in run("report", "missing").refusal()
    assert "contains no record" in run("report", "empty").refusal()
    assert "record.sqlite" in run("report", "broken").refusal()
    assert "record.sqlite" in run("export", "broken", "--to", "csv").refusal()
    assert "contains no record" in run("export", "empty", "--to", "csv").refusal()
    assert "try 'edge'" in run("run", "egde").refusal()
    assert "jobs=0" in run("run", "edge", "--jobs", 0, "--out", "new").refusal()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_study_of_the_user(run: Run, users_study: str, here: Path, jobs: int) -> None:
    said = run("run", "small", "--module", users_study, "--jobs", jobs)
    assert said.code == 0, said  # a claim that fails is a result
    folder = here / "runs" / "small-quick"
    assert "fails" in said.out
    assert "Pigs fly" in said.out
    assert said.out.endswith("report: runs/small-quick/report.html\n")
    (finding,) = read_findings(folder / "findings.json")
    assert finding.measured == {"lr 0.05": 20.0, "lr 0.1": 20.0}

    (folder / "report.html").unlink()
    (folder / "findings.json").unlink()
    said = run("report", folder, "--module", users_study)
    assert said.code == 0
    assert "Pigs fly" in said.out
    assert read_findings(folder / "findings.json") == [finding]

    assert "--resume" in run("run", "small", "--module", users_study).refusal()
    assert run("run", "small", "--module", users_study, "--jobs", jobs, "--resume").code == 0
    assert "seed 0" in run("run", "small", "--module", users_study, "--seed", 1, "--resume").refusal()


def test_an_interrupted_study_is_resumed_by_the_command_it_prints(run: Run, users_study: str, here: Path) -> None:
    assert run("run", "small", "--module", users_study, "--jobs", 1, "--out", "whole").code == 0
    Path("armed").touch()
    said = run("run", "small", "--module", users_study, "--jobs", 1, "--out", "halved")
    arguments = again(said)
    assert not (here / "halved" / "report.html").exists()
    assert run(*arguments).code == 0
    assert (here / "halved" / "report.html").exists()
    for name in ("lr 0.05", "lr 0.1"):
        with (
            Record.open(here / "whole" / "runs" / name) as whole,
            Record.open(here / "halved" / "runs" / name) as other,
        ):
            assert other.fingerprint() == whole.fingerprint()


def test_a_failed_run_of_a_study_is_named(run: Run, users_study: str, here: Path) -> None:
    said = run("run", "small:broken=true", "--module", users_study, "--jobs", 1, "--out", "a")
    assert said.code == 1
    assert "Pigs fly" in said.out
    assert "edgescope: run 'lr 0.1' failed (" in said.err
    assert "1 of 2 runs failed and are missing from the verdicts" in said.err
    assert "--resume" in said.err
    assert "Traceback" not in said.err

    plain = run("run", "small", "--module", users_study, "--out", "a", "--resume")
    assert "holds study 'small:broken=True'" in plain.refusal()  # another study: its options are part of it
    assert "edgescope run small:broken=True --preset quick" in (here / "a" / "report.html").read_text()
    assert run("report", "a", "--module", users_study).code == 0
