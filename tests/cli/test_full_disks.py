"""Every command on a full disk and in a read-only place: one line that says so, exit code 2, and nothing half."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from said import Run, Said
from small_disk import read_only, small_disk

from edgescope.store import Record
from edgescope.store.verify import verify

TRAIN = (
    *("train", "--data", "digits:train=20,test=10", "--model", "mlp:widths=4", "--lr", 0.1, "--steps", 40),
    *("--every", 1, "--threads", 1, "--path", "kept", "--measures", "loss", "norms"),
)
SWEEP = (
    *("sweep", "own_run:make_run", "--lr", "0.1,0.2", "--steps", 20),
    *("--threads", 1, "--path", "kept", "--stop-loss", 0.2),
)
SHARES = [0.0, 0.2, 0.5, 0.8]
"""Of the space that a command needs, how much there is."""


def is_told(said: Said) -> bool:
    """Whether a command failed with a line that the disk is full (or, without a small disk, a file too large)."""
    lines = [line for line in said.err.splitlines() if "the disk is full" in line or "File too large" in line]
    assert said.code == 2, said
    assert len(lines) == 1, said
    assert lines[0].startswith("edgescope: ")
    assert "; try " in lines[0]
    assert "Traceback" not in said.err
    return True


def part_of(folder: Path, share: float) -> int:
    """So much of the space that ``folder`` takes, in KiB."""
    pages = [-(-path.stat().st_size // 4096) for path in folder.rglob("*") if path.is_file()]
    return max(1, int(share * 4 * sum(pages)))


@pytest.fixture
def trained(run: Run, here: Path) -> Path:
    assert run(*TRAIN, "--out", "trained").code == 0
    return here / "trained"


@pytest.mark.parametrize("share", SHARES)
def test_training(run: Run, trained: Path, here: Path, share: float) -> None:
    with small_disk(here / "disk", part_of(trained, share)) as lift:
        assert is_told(run(*TRAIN, "--out", "disk/a"))
        lift()
        again = ("--resume",) if (here / "disk/a/record.sqlite").exists() else ()
        assert run(*TRAIN, "--out", "disk/a", *again).code == 0
        assert {one.verdict for one in verify(here / "disk")} == {"whole"}
        with Record.open(here / "disk/a") as record, Record.open(trained) as whole:
            assert record.fingerprint() == whole.fingerprint()


@pytest.mark.slow
def test_a_sweep_in_processes(run: Run, here: Path) -> None:
    with small_disk(here / "disk", 60):
        assert is_told(run(*SWEEP, "--jobs", 2, "--out", "disk/s"))


@pytest.mark.slow
def test_a_sweep(run: Run, here: Path) -> None:
    assert run(*SWEEP, "--jobs", 1, "--out", "swept").code == 0
    for share in SHARES:
        with small_disk(here / f"disk{share}", part_of(here / "swept", share)) as lift:
            out = here / f"disk{share}" / "s"
            assert is_told(run(*SWEEP, "--jobs", 1, "--out", out))
            lift()
            again = ("--resume",) if (out / "sweep.json").exists() else ()
            assert run(*SWEEP, "--jobs", 1, "--out", out, *again).code == 0
            for name in ("lr0.1", "lr0.2"):
                with Record.open(out / "runs" / name) as record, Record.open(here / "swept/runs" / name) as whole:
                    assert record.fingerprint() == whole.fingerprint()


def test_a_study(run: Run, users_study: str, here: Path) -> None:
    command = ("run", "small", "--module", users_study, "--jobs", 1, "--out")
    assert run(*command, "whole").code == 0
    for share in SHARES:
        with small_disk(here / f"disk{share}", part_of(here / "whole", share)) as lift:
            out = here / f"disk{share}" / "s"
            assert is_told(run(*command, out))
            lift()
            again = ("--resume",) if (out / "study.json").exists() else ()
            assert run(*command, out, *again).code == 0
            assert json.loads((out / "study.json").read_text())["study"] == "small"


@pytest.mark.slow
def test_a_report(run: Run, trained: Path, here: Path) -> None:
    assert run("report", "trained", "--out", "whole").code == 0
    for share in SHARES:
        with small_disk(here / f"disk{share}", part_of(here / "whole", share)) as lift:
            out = here / f"disk{share}" / "r"
            assert is_told(run("report", "trained", "--out", out))
            assert [path.name for path in out.parent.rglob("*") if ".part" in path.name] == []
            lift()
            assert run("report", "trained", "--out", out).code == 0
            assert (out / "report.html").read_text().rstrip().endswith("</html>")
            assert len(list(out.rglob("*"))) == len(list((here / "whole").rglob("*")))


@pytest.mark.parametrize("to", ["csv", "parquet", "tensorboard"])
def test_an_export(run: Run, trained: Path, here: Path, to: str) -> None:
    with small_disk(here / "disk", 1) as lift:
        assert is_told(run("export", "trained", "--to", to, "--out", "disk/x"))
        assert [path for path in (here / "disk").rglob("*") if path.is_file()] == []
        lift()
        assert run("export", "trained", "--to", to, "--out", "disk/x").code == 0


@pytest.mark.parametrize("arguments", [["list"], ["verify", "trained"], ["verify", "trained", "--json"]])
def test_output_that_goes_to_a_full_disk(trained: Path, arguments: list[str]) -> None:
    if not Path("/dev/full").exists():
        return  # which only Linux has
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgescope", *arguments], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (
        2,
        "edgescope: the disk is full while writing the output; try freeing space\n",
    )


OWN = """
import torch
import edgescope as es

def objective():
    data = torch.ones(5, 3), torch.ones(5, 1)
    return es.Objective(torch.nn.Linear(3, 1), es.losses.supervised(es.losses.half_mse), data, threads=1)
"""


def test_a_checkpoint_in_a_read_only_place_is_inspected(run: Run, here: Path) -> None:
    (here / "own_objective.py").write_text(OWN)
    with small_disk(here / "disk", 64):
        save_file({"weight": torch.ones(1, 3), "bias": torch.ones(1)}, here / "disk/w.safetensors")
        with read_only(here / "disk"):
            assert run("inspect", "disk/w.safetensors", "--objective", "own_objective:objective").code == 0


def test_in_a_read_only_place(run: Run, users_study: str, here: Path) -> None:
    place = here / "disk"
    with small_disk(place, 1) as lift:
        lift()
        assert run(*TRAIN, "--out", "disk/a").code == 0
        assert run("run", "small", "--module", users_study, "--jobs", 1, "--out", "disk/s").code == 0
        before = sorted(place.rglob("*"))
        with read_only(place):
            for command in (("verify", "disk"), ("export", "disk/a", "--to", "csv", "--out", "x.csv")):
                assert run(*command).code == 0
            for folder, options in (("disk/a", ()), ("disk/s", ("--module", users_study))):
                assert run("report", folder, "--out", f"{folder[-1]}-report", *options).code == 0
            if os.access(place, os.W_OK):
                return  # as root, where nothing can be mounted, nothing is read-only
            for command in (
                (*TRAIN, "--out", "disk/b"),
                (*SWEEP, "--jobs", 1, "--out", "disk/c"),
                ("run", "small", "--module", users_study, "--out", "disk/d"),
                ("report", "disk/a"),
                ("report", "disk/s", "--module", users_study),
                ("export", "disk/a", "--to", "csv"),
                ("export", "disk/a", "--to", "parquet"),
                ("export", "disk/a", "--to", "tensorboard"),
            ):
                said = run(*command)
                assert said.code == 2, (command, said)
                (line,) = [one for one in said.err.splitlines() if one.startswith("edgescope: ")]
                assert "read-only file system" in line or "may not be written" in line, (command, line)
            # A study that has ended is reported anew, which cannot be done there; that is said too.
            said = run("run", "small", "--module", users_study, "--jobs", 1, "--out", "disk/s", "--resume")
            assert said.code == 2, said
            assert "read-only file system" in said.err or "may not be written" in said.err
        assert sorted(place.rglob("*")) == before
