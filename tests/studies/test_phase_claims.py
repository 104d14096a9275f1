"""The verdicts of study `phases` on records made by hand, whose truth is known, and its tasks in the small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgescope.measures import Reading
from edgescope.report import Finding
from edgescope.store import Record
from edgescope.studies.phases.addition import AdditionTask
from edgescope.studies.phases.biases import BiasesTask
from edgescope.studies.phases.claims import phase_findings
from edgescope.studies.phases.curves import DwellTask, Sparse, SparseTask
from edgescope.studies.phases.escapes import EscapeTask, Level, NullTask
from edgescope.studies.phases.networks import NetworksTask, Swept
from edgescope.studies.phases.pictures import phase_figures
from edgescope.studies.phases.runs import phase_tasks
from edgescope.studies.phases.sweeps import SIGNALS, Sweep, SweepTask
from edgescope.theory.deep_linear import Mode


def record_of(folder: Path, readings: list[Reading], **config: Any) -> Record:
    record = Record.create(folder, config=config or {"lr": 0.05})
    for number, reading in enumerate(readings):
        record.append(number, [reading])
    record.set_status("finished")
    return record


def exponential(mean: float, seed: int, count: int = 400, shape: float = 1.0) -> np.ndarray:
    return mean * np.random.default_rng(seed).weibull(shape, count)


def escape(coldness: float, times: np.ndarray, batch: float = 8.0, lr: float = 0.05, most: float = np.inf) -> Reading:
    values = {"coldness": coldness, "lr": lr, "batch": batch}
    arrays = {"times": np.minimum(times, most), "escaped": (times < most).astype(float)}
    return Reading("escape", values, arrays=arrays)


def sweep(name: str, depth: int, right: bool) -> Reading:
    values: dict[str, float] = {"depth": depth}
    for s in SIGNALS:
        end = Mode(depth, s).critical_decay() * (1 if right else 1.2)
        area = Mode(3, s).loop_area(0.01) * (1 if right else 0.8) if depth > 2 else 0.0 if right else 0.1
        values |= {f"collapse/{s:g}": end - 0.003, f"next/{s:g}": end + 0.004, f"area/{s:g}": area}
    if name == "Langevin":
        values |= {"relearned/1": 0.25 if right else 0.45}
    if name == "descent" and not right:
        values["relearned/1"] = 0.1
    if name == "Langevin, 5 times as fast":
        values["area/1"] += 0.1 if right else -0.1
    arrays = {key: np.linspace(0.01, 0.5, 4) for key in ("decays",)} | {k: np.ones((4, 4)) for k in ("up", "down")}
    return Reading("sweep", values, arrays=arrays, note=name)


def made(folder: Path, right: bool) -> dict[str, Record]:
    """Records of which every claim of the theory holds, or fails, as ``right`` says."""
    kramers, down = Mode(3, 1.0), float(Mode(3, 0.8).descent_slope(0.33))
    temperatures = (0.006, 0.0042, 0.0031, 0.0024)
    slope, agree, fall = (1.0, 20.0, -1.14) if right else (1.6, 9.0, -0.5)
    cold = [1 / t for t in (0.0014, 0.0012, 0.0011, 0.001)]
    nets = {}
    for task, (h, decay) in {"langevin-h4": (4, 0.25), "langevin-h10": (10, 0.28)}.items():
        barrier = float(Mode(3, 0.8).barrier_up(decay))
        rise = barrier - (h - 1) * float(np.mean([1 / c for c in cold])) if right else 1.5 * barrier
        scale = 1.0 if right else 1e9
        nets[task] = [
            escape(c, exponential(scale / h * np.exp(rise * (c - cold[0])), 7 * h + i)) for i, c in enumerate(cold)
        ]
    readings: dict[str, list[Reading]] = {
        "sweeps": [
            sweep(name, depth, right)
            for name, depth in (
                ("descent", 3), ("descent, depth 4", 4), ("jitter, depth 2", 2), ("Langevin", 3),
                ("Langevin, 5 times as fast", 3),
            )
        ],
        "states": [Reading(
            "states",
            {"agree": agree, "of": 20.0, "paper/rank 0": 0.725, "paper/rank 1": 0.7024, "paper/rank 2": 0.722},
            arrays={"rank": np.ones(20), "theory_rank": np.ones(20) * (1 if right else 2)}, note="signals (0.9, 0.8)")],
        "samples": [Reading("samples", {"rank 1": 0.35 if right else 0.3, "rank 0": 0.41})] * 3,
        "kramers": [
            escape(1 / t, exponential(float(kramers.kramers_time(0.3, t)) ** slope, i, shape=1.0 if right else 2.0))
            for i, t in enumerate(temperatures)
        ],
        **nets,
        **{
            task: [escape(20 * b, exponential(np.exp(slope * down * 20 * b), b, 4000), float(b)) for b in (6, 8, 10)]
            for task in ("batches-chain", "batches-h10")
        },
        "batches-rates": [
            escape(c, exponential(100.0 if right or lr < 0.1 else 300.0, int(c)), lr=lr)
            for c in (80.0, 160.0)
            for lr in (0.05, 0.1)
        ],
        "null": [
            Reading("null", {"held": h, "trapped": 20.0, "escaped": e, "watched": 1e4, "fall": fall},
                    arrays={"fall": np.geomspace(1, 1e-9, 50), "fall_at": np.arange(50)})
            for h, e in ((2000.0, 0.0 if right else 9.0), (40.0, 3.0 if right else 0.0))
        ],
        "langevin-melted": [
            escape(c, exponential(np.exp((0.0 if right else 0.05) * (c - cold[0])), 50 + i)) for i, c in enumerate(cold)
        ],
        "biases": [
            Reading("biases", {"biases": b, "trapped": 3.0, "escaped": 0.0 if right else b, "largest": 1e-11})
            for b in (0.0, 1.0)
        ],
        "dwell": [Reading("dwell", {}, arrays={
            "beyond": np.array([1e-3, 1e-5]), "time": np.array([100.0, 1000.0 if right else 2000.0])})],
        "staged": [Reading("staged", {}, arrays={"first": np.array([[300.0, 9000.0 if right else 200.0]] * 4),
                                                 "at": np.arange(3), "shown": np.ones((3, 2))})],
        "plateau": [Reading("plateau", {"decay": 0.01}, arrays={
            "ratio": np.array([0.9, 1.2, 2.0]), "theory": np.array([np.inf, 10.0, 5.0]),
            "time": np.array([np.inf, 10.1, 5.1]) if right else np.array([3.0, 10.0, 9.0])})],
        "sparse": [
            Reading("sparse", {"held": h, "decay": 0.0025, "temperature": t}, arrays={
                "delays": np.full(4, d), "at": np.arange(0, 50_000, 500.0), "losses": np.where(
                    np.arange(0, 50_000, 500) < d, 0.6, 0.3 if right else 0.6) * np.ones((4, 2, 1))})
            for h, t, d in ((250.0, 0.0, 150.0 if right else np.inf), (350.0, 0.0, np.inf), (3000.0, 1e-4, 2e4))
        ],
        "paths": [Reading("linear path", {"depth": 3.0, "width": 4.0, "height": 0.0127 if right else 0.02, "up": 0.0127,
                                          "back": 0.1, "down": 0.1})],
        "network-0": [Reading("network", {
            **{f"area/{n}": 0.5 if right else 0.01 for n in ("norm", "rank", "loss")}, "settled": 1.0,
            "jumps/rank": 1.0, "largest/rank": 0.9 if right else 0.3, "at/rank": 0.1, "start": 1.0,
            "temperature": 0.01},
            arrays={k: np.geomspace(0.01, 0.1, 4) for k in ("decays", "up/norm", "down/norm")} | {
                "path decays": np.array([0.1, 0.08]), "height": np.array([0.1, 0.05]) * (1 if right else 1e-3),
                "back": np.array([0.2, 0.3]), "error": np.full(2, 1e-3), "escaped": np.ones((2, 400)),
                "times": np.array([exponential(50.0 * (np.exp(5) if right else 0.5), 1), exponential(50.0, 2)])},
            note="digits, tanh")],
        "addition": [
            Reading("addition", {"modulus": 31.0}, arrays={
                "decay": np.array([1e-4, 2e-4, 4e-4]), "start": np.ones(3), "straight": np.ones(3), "rise": np.zeros(3),
                "delay": np.array([4e3, 2e3, 1e3]) if right else np.array([2e3, 2e3, 2.5e3]),
                "height": np.array([0.4, 0.3, 0.2]) if right else np.array([0.0, 1e-5, 0.0]),
                "train": np.ones((2, 3)), "test": np.ones((2, 3)), "at": np.arange(2.0)}),
            *addition_sweeps(0.5 if right else 0.02, 0.5),
        ],
    }  # fmt: skip
    return {name: record_of(folder / name, found) for name, found in readings.items()}


def of_paper(finding: Finding) -> bool:
    """Claims that are about the paper's own figures, not about what was simulated."""
    return any(words in finding.claim for words in ("0.32", "as the paper prints it", "170 parameters"))


def of_theory(finding: Finding) -> bool:
    """Claims about closed forms alone, which need no run."""
    return any(words in finding.claim for words in ("golden", "At its saddle", "Depth at a fixed decay"))


def addition_sweeps(slow: float, fast: float, settled: float = 0.5) -> list[Reading]:
    names = [f"{way}/{n}" for way in ("up", "down") for n in ("norm", "test accuracy", "training accuracy")]
    arrays = {name: np.geomspace(0.01, 0.1, 4) for name in ("decays", *names)}
    return [
        Reading("addition sweep", {"area/test accuracy": area, "settled": settled}, arrays=arrays, note=note)
        for note, area in (("sweep", slow), ("sweep, 4 times as fast", fast))
    ]


@pytest.mark.parametrize(
    ("slow", "settled", "verdict"),
    [(0.9, 0.5, "holds"), (0.5, 0.5, "inconclusive"), (0.9, 0.4, "inconclusive"), (0.05, 0.5, "fails")],
)
def test_a_loop_that_shrinks_with_the_rate_of_the_sweep_or_has_not_settled_is_no_loop(
    tmp_path: Path, slow: float, settled: float, verdict: str
) -> None:
    runs = {"addition": record_of(tmp_path / "addition", addition_sweeps(slow, 1.0, settled))}
    found = [f for f in phase_findings(runs) if "what it understood it keeps" in f.claim]
    assert [f.verdict for f in found] == [verdict]


@pytest.mark.parametrize("right", [True, False])
def test_claims_hold_where_they_are_true_and_fail_where_not(tmp_path: Path, right: bool) -> None:
    runs = made(tmp_path, right)
    found = [f for f in phase_findings(runs) if not of_paper(f) and not of_theory(f)]
    assert len(found) >= 35
    turned = ("Mini-batch descent escapes upwards", "Biases help")  # which the theory contradicts
    wrong = [f.claim for f in found if (f.verdict == "holds") != (right != f.claim.startswith(turned))]
    assert wrong == []
    assert {f.verdict for f in found} == {"holds", "fails"}


def test_the_papers_own_figures_are_contradicted(tmp_path: Path) -> None:
    found = {f.claim: f.verdict for f in phase_findings(made(tmp_path, True)) if of_paper(f)}
    assert list(found.values()) == ["fails"] * 4


def test_closed_forms_need_no_run() -> None:
    assert [f.verdict for f in phase_findings({}) if of_theory(f)] == ["holds"] * 3


def test_runs_that_are_missing_decide_nothing() -> None:
    counted = ("0.41", "170 parameters")
    found = [f for f in phase_findings({}) if not of_theory(f) and not any(words in f.claim for words in counted)]
    assert {f.verdict for f in found} == {"inconclusive"}
    assert phase_figures({}) == []


def test_pictures_are_drawn_from_the_same_records(tmp_path: Path) -> None:
    names = [figure.name for figure in phase_figures(made(tmp_path, True))]
    assert names == [
        "loops", "langevin", "batches", "distributions", "null", "sparse", "sparse-noise", "staged",
        "networks", "network-delays", "addition-loops", "addition",
    ]  # fmt: skip


def test_a_network_that_stayed_trapped_or_had_no_barrier_decides_nothing(tmp_path: Path) -> None:
    def said(name: str, claim: str = "the time in their trap", **changed: Any) -> Finding:
        values = {
            "start": 1.0,
            "settled": 1.0,
            "temperature": 0.01,
            "area/norm": 1.0,
            "area/rank": 1.0,
            "area/loss": 1.0,
        }
        arrays = {"path decays": np.array([0.1, 0.08]), "height": np.array([0.1, 0.05]), "back": np.ones(2),
                  "error": np.zeros(2),
                  "times": np.full((2, 5), 9.0), "escaped": np.zeros((2, 5))}  # fmt: skip
        reading = Reading("network", values, arrays=arrays | changed, note="digits, tanh")
        runs = {"network-0": record_of(tmp_path / name, [reading])}
        return next(f for f in phase_findings(runs) if claim in f.claim)

    assert said("trapped").verdict == "inconclusive"
    assert said("none", times=np.zeros((0, 5)), escaped=np.zeros((0, 5))).verdict == "inconclusive"
    lost = np.array([np.nan, 0.05])
    assert said("path", height=lost).verdict == "inconclusive"
    assert said("path of one", "A barrier stands between the states", height=lost).verdict == "inconclusive"
    one = said("one", escaped=np.array([[1.0] * 5, [0.0] * 5]))
    assert (one.verdict, one.measured["digits, tanh: escaped of 5 (1)"]) == ("inconclusive", 5)
    assert one.measured["digits, tanh: barrier 1 / T"] == pytest.approx(10)


@pytest.mark.parametrize(("count", "expected"), [(40, "inconclusive"), (4000, "fails")])
def test_a_slope_outside_its_range_fails_only_with_its_whole_interval(
    tmp_path: Path, count: int, expected: str
) -> None:
    cold = [1 / t for t in (0.0014, 0.0012, 0.0011, 0.001)]
    rise = 1.3 * (Mode(3, 0.8).barrier_up(0.25) - 3 * np.mean([1 / c for c in cold]))
    readings = [escape(c, exponential(float(np.exp(rise * (c - cold[0]))), 90 + i, count)) for i, c in enumerate(cold)]
    found = phase_findings({"langevin-h4": record_of(tmp_path / "nets", readings)})
    assert next(f.verdict for f in found if f.claim.startswith("That slope")) == expected


SMALL = {
    "escape": EscapeTask(
        "a", 1.0, 0, (Level(400, temperature=0.01), Level(400, temperature=0.006)), 0.8, 0.25, 0.3, 4, 4
    ),
    "sweep": SweepTask("b", 1.0, 0, (Sweep("descent", 3, 30), Sweep("jitter", 2, 30, jitter=0.01)), 4),
    "null": NullTask("c", 1.0, 0, ((100, 0.3, True), (100, 0.3, False)), epochs=5, replicas=2),
    "networks": NetworksTask(
        "e",
        1.0,
        0,
        (Swept("digits, tanh", "digits:test=10", "mlp:widths=4x4", 4, 20),),
        3,
        5,
        20,
        0,
        2,
        10,
        path_steps=3,
        shares=(1.0,),
    ),
    "biases": BiasesTask("g", 1.0, 0, 1, 4, 2),
    "dwell": DwellTask("h", 1.0, 0, (1e-1, 1e-2)),
    "addition": AdditionTask("f", 1.0, 0, 5, (1e-4, 1e-3), 20, (1e-4, 1e-3), 5, 5, 3, 0, checkpoints=10),
    "sparse": SparseTask("d", 1.0, 0, (Sparse(100, 0.0025, 50), Sparse(100, 0.1, 50, 1e-4)), 1, window=(0.5, 0.9)),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_task_that_was_stopped_goes_on_to_the_same_record(tmp_path: Path, name: str) -> None:
    task = SMALL[name]
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    task.run(tmp_path / "whole", lambda fraction, text: None)

    class Stopped(Exception):
        pass

    def stop(fraction: float, text: str) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        task.run(tmp_path / "parts", stop)
    task.run(tmp_path / "parts", lambda fraction, text: None)
    with Record.open(tmp_path / "whole") as whole, Record.open(tmp_path / "parts") as parts:
        assert parts.status == whole.status == "finished"
        assert parts.fingerprint() == whole.fingerprint()


@pytest.mark.parametrize("preset", ["quick", "full"])
def test_the_tasks_of_a_preset_have_names_of_their_own(preset: str) -> None:
    tasks = phase_tasks(preset, seed=3)  # type: ignore[arg-type]
    assert len({task.name for task in tasks}) == len(tasks) >= 15
    assert {task.seed for task in tasks} == {3}  # type: ignore[attr-defined]
    assert replace(tasks[0], seed=4).seed == 4  # type: ignore[type-var, attr-defined]
