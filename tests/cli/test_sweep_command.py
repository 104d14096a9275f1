"""``edgescope sweep`` on runs of a moment: what it prints, what it leaves, what it refuses."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from said import Run

from edgescope.cli.sweep_report import place_in_sweep
from edgescope.store import Record

OWN = """
import torch
import edgescope as es

def parts(stop=None, size=4):
    data = es.DATA.build("digits:train=40,test=10").load()
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, size), torch.nn.Tanh(), torch.nn.Linear(size, 10)
    )
    loss = es.supervised(es.losses.half_mse)
    made = {"model": model, "loss_fn": loss, "data": (data.inputs, data.targets)}
    made["test"] = (data.test_inputs, data.test_targets)
    return made | ({"stop_loss": stop} if stop else {})

def make_run():
    return parts(stop=0.42)

def as_tuple():
    return tuple(parts().values())[:3]

def wrong():
    return 3

def unknown():
    return parts() | {"modle": 1}

def narrow():
    return parts(0.42) | {"model": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(7, 10))}

def halved():
    made = parts(0.42)
    return made | {"model": made["model"].bfloat16()}

def worded():
    return parts(stop="low")

def not_a_number():
    made = parts(0.42)
    made["data"][0][3] = float("nan")
    return made

def broken():
    raise ZeroDivisionError("by zero")

calls = 0

def another_each_time():
    global calls
    calls += 1
    return parts(0.42, 3 + calls)

word = "make_run"
"""
QUICK = ("--steps", 150, "--threads", 1, "--path", "kept", "--jobs", 1)


@pytest.fixture
def own(here: Path) -> str:
    (here / "own_parts.py").write_text(OWN)
    return "own_parts"


def test_a_users_model_is_swept_and_resumed(run: Run, own: str, here: Path) -> None:
    command = ("sweep", f"{own}:make_run", "--lr", "0.001,0.3,300", *QUICK, "--out", "s")
    said = run(*command)
    assert said.code == 0, said
    found = re.search(r"critical learning rate (\S+) = 2 / (\S+), the largest sharpness of gradient flow", said.out)
    assert found, said.out
    with Record.open(here / "s/runs/flow") as record:
        top = float(max(record.series("sharpness", "1")[1]))
    assert float(found[2]) == pytest.approx(top, rel=1e-3)
    assert float(found[1]) == pytest.approx(2 / top, rel=1e-3)
    rows = {line.split()[0]: line for line in said.out.splitlines() if re.match(r" *(0\.001|0\.3|300) ", line)}
    assert rows["0.001"].rstrip().endswith("flow-aligned *")  # too slow for 150 steps
    assert rows["0.3"].rstrip().endswith("flow-aligned" if 2 / top > 0.3 else "edge of stability")
    assert rows["300"].rstrip().endswith("diverged")
    assert "* 1 of 3 runs did not reach the stop loss" in said.out
    with Record.open(here / "s/runs/lr0.3") as record:
        test_loss = record.series("loss", "test")[1][-1]
        assert record.series("loss", "train")[1][-1] <= 0.42
        assert record.config["function"] == f"{own}:make_run"
    assert f"best test loss {test_loss:.4g}"[:19] in said.out
    assert "at learning rate 0.3" in said.out
    assert max(map(len, said.out.splitlines()[:8])) <= 80
    page = (here / "s/report.html").read_text()
    assert "The norm–sharpness trade-off across learning rates" in page
    assert f"{own}:make_run, from one" in page, "a name keeps its letters"
    assert "* 1 of 3 runs" not in page
    assert (here / "s/figures/tradeoff.png").stat().st_size > 0

    assert "s is not empty; try --resume" in run(*command).refusal()
    other = (*command, "--stop-loss", "0.41", "--resume")
    assert "s does not hold a sweep with these options (stop_loss = 0.42 there, 0.41 here)" in run(*other).refusal()
    again = run(*command, "--resume")
    assert again.code == 0
    assert again.out == said.out
    assert run("report", "s").out == said.out


def test_named_parts_around_the_critical_rate(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgescope.cli.sweep.AROUND", "3log")
    said = run(
        "sweep",
        "--data",
        "digits:train=40,test=10",
        "--model",
        "mlp:widths=4",
        *QUICK,
        "--stop-loss",
        0.4,
        "--out",
        "s",
    )
    assert said.code == 0, said
    rates = sorted(float(path.name[2:]) for path in (here / "s/runs").glob("lr*"))
    with Record.open(here / "s/runs/flow") as record:
        critical = 2 / float(max(record.series("sharpness", "1")[1]))
    assert rates == pytest.approx([critical / 10, critical, critical * 10], rel=0.02)


def test_a_function_that_makes_another_model_each_time_is_found_out(run: Run, own: str, here: Path) -> None:
    said = run("sweep", f"{own}:another_each_time", "--lr", "0.1,0.3", *QUICK, "--out", "s")
    assert "the runs did not start from the same parameters" in said.out


def test_runs_stand_in_the_order_of_their_learning_rates() -> None:
    function = {"function": "own_parts:make_run", "optimizer": "sgd"}
    runs = [{"lr": lr, "seed": seed, **function} for lr in (1e-3, 0.5, 2.0, 14.9, 110.3) for seed in (0, 1, 10)]
    runs.insert(0, {"lr": 200.0, "seed": 0, **function, "optimizer": "gradient-flow:max_step=10"})
    assert sorted(runs[5:] + runs[:5], key=place_in_sweep) == runs


def test_refusals(run: Run, own: str, here: Path) -> None:
    for arguments, words in {
        ("nothing:at_all", "--lr", "1"): "no module 'nothing'",
        (f"{own}:absent", "--lr", "1"): "module 'own_parts' has no function 'absent'",
        (f"{own}:word", "--lr", "1"): "a str, not a function, 'word'",
        ("own_parts", "--lr", "1"): "function 'own_parts'; expected module:function",
        (f"{own}:wrong", "--lr", "1"): "function 'own_parts:wrong' returned a int; expected (model, loss_fn, data)",
        (f"{own}:unknown", "--lr", "1"): "returned a dict with 'modle'",
        (f"{own}:broken", "--lr", "1"): "raised ZeroDivisionError: by zero",
        (f"{own}:make_run", "--lr", "1:0.1:5log"): "learning rates '1:0.1:5log'",
        (f"{own}:make_run", "--lr", "-1"): "learning rates '-1'",
        (f"{own}:make_run", "--lr", "1", "--data", "digits"): "both function and data were given",
        (f"{own}:make_run", "--lr", "1", "--stop-loss", "nan"): "stop_loss=nan",
        (f"{own}:make_run", "--lr", "1", "--stop-loss", "50"): "is not above the loss 50",
        (f"{own}:make_run", "--lr", "1", "--jobs", "0"): "jobs=0; expected a whole number of at least 1",
        (f"{own}:narrow", "--lr", "1"): "cannot be multiplied",
        (
            f"{own}:halved",
            "--lr",
            "1",
        ): "model with bfloat16 parameters; expected float32 or float64; try model.float()",
        (f"{own}:worded", "--lr", "1"): "returned stop_loss = 'low'",
        (f"{own}:not_a_number", "--lr", "1"): "contain NaN",
    }.items():
        said = run("sweep", *arguments, "--out", "s")
        assert words in said.refusal(), said
        assert not (here / "s").exists()


def test_an_unreachable_scheduler_is_one_line_and_leaves_nothing(
    run: Run, own: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgescope.sweep.cluster.REACH_SECONDS", 0.3)
    address = ("--cluster", "tcp://127.0.0.1:1", "--out", "s")
    words = "no Dask scheduler answers at tcp://127.0.0.1:1"
    assert words in run("sweep", f"{own}:make_run", "--lr", "1", *QUICK, *address).refusal()
    assert words in run("run", "edge", *address).refusal()
    assert not (here / "s").exists()


def test_rates_that_all_diverge_are_a_result_with_its_picture(run: Run, own: str, here: Path) -> None:
    said = run("sweep", f"{own}:make_run", "--lr", "300,600", *QUICK, "--out", "s")
    assert said.code == 0, said
    assert "best learning rate: none, since every run diverged" in said.out
    assert (here / "s/figures/tradeoff.svg").stat().st_size > 0


def test_what_listens_but_is_no_scheduler_is_one_line(run: Run, own: str, here: Path) -> None:
    def answer(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9)
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        said = run("sweep", f"{own}:make_run", "--lr", "1", *QUICK, "--cluster", address, "--out", "s")
    assert f"no Dask scheduler answers at {address}" in said.refusal()
    assert not (here / "s").exists()
