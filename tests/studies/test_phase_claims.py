"""The verdicts of study `phases` on records made by hand, whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coefficient_records import coefficient_points

from edgescope.claims import Finding
from edgescope.experiments.phases.sweeps import FASTER, SIGNALS
from edgescope.experiments.study_run import StudyRun
from edgescope.measures import Reading
from edgescope.store import Record
from edgescope.studies.phases import Phases
from edgescope.theory.deep_linear import Mode

Runs = dict[str, StudyRun]

CONTRADICTED = [
    "rank-2-global-minimum", "printed-loss", "quoted-saddle", "quoted-barrier", "number-of-parameters",
]  # fmt: skip
"""Claims about the paper's own figures, which its equations and any right simulation contradict."""

CLOSED_FORMS = ["golden-values", "saddle-curvatures", "depth-raises-barrier", "barrier-at-small-decay"]
"""Claims about closed forms alone, which need no run."""

AGAINST_THEORY = ["batches-escape-in-time", "batches-escape-at-all", "biases-help"]
"""Claims that fail where the theory is right."""

IDS = [tested.claim.id.partition(".")[2] for topic in Phases.topics for tested in topic.claims]
MEASURED = [id for id in IDS if id not in (*CONTRADICTED, *CLOSED_FORMS, *AGAINST_THEORY)]


def run_of(folder: Path, tags: dict[str, str], readings: list[Reading], **config: Any) -> StudyRun:
    record = Record.create(folder, config={"lr": 0.05} | config)
    for number, reading in enumerate(readings):
        record.append(number, [reading])
    record.set_status("finished")
    return StudyRun(folder.name, record, tags)


def drawn(mean: float, seed: int, count: int = 4000, shape: float = 1.0) -> np.ndarray:
    return mean * np.random.default_rng(seed).weibull(shape, count)


def escape(coldness: float, times: np.ndarray, batch: float | None = None, lr: float = 0.05) -> Reading:
    values = {"coldness": coldness, "lr": lr} | ({} if batch is None else {"batch": batch})
    return Reading("escape", values, arrays={"times": times, "escaped": np.ones(len(times))})


def sweep(name: str, depth: int, right: bool, shift: float = 0.0) -> Reading:
    values: dict[str, float] = {"depth": depth}
    for s in SIGNALS:
        end = Mode(depth, s).critical_decay() * (1 if right else 1.2)
        area = Mode(3, s).loop_area(0.01) * (1 if right else 0.8) if depth > 2 else 0.0 if right else 0.1
        if name == FASTER:
            area += (0.1 + shift) * Mode(3, s).loop_area(0.01) * (1 if right else -1)
        values |= {f"collapse/{s:g}": end - 0.003, f"next/{s:g}": end + 0.004, f"area/{s:g}": area}
        values |= {f"relearned/{s:g}": 0.1} if name == "descent" and not right else {}
    values |= {"relearned/1": 0.25 if right else 0.49} if name == "Langevin" else {}
    arrays = {"decays": np.linspace(0.01, 0.5, 4), "up": np.ones((4, 4)), "down": np.ones((4, 4))}
    return Reading("sweep", values, arrays=arrays, note=name)


def ways(area: float, *names: str, decays: int = 8) -> dict[str, np.ndarray]:
    """Two ways from 1 to 0 and a constant gap below, of so large an area over their range."""
    decay, up = np.geomspace(0.01, 0.1, decays), np.linspace(1, 0, decays)
    down = up - area / (np.log(10) - area)
    return {"decays": decay} | {f"up/{name}": up for name in names} | {f"down/{name}": down for name in names}


def network(note: str, right: bool = True, **changed: Any) -> Reading:
    values = {f"area/{name}": 0.5 for name in ("norm", "rank", "loss")} | {"settled": 1.0, "jumps/rank": 1.0}
    values |= {"largest/rank": 0.9 if right else 0.3, "at/rank": 0.1, "start": 1.0, "temperature": 0.01}
    times = [drawn(50 * (np.exp(5) if right else 0.5), 1, 400), drawn(50, 2, 400)]
    arrays = ways(0.5 if right else 0.01, "norm") | {
        "path decays": np.array([0.1, 0.08]), "height": np.array([0.1, 0.05]) * (1 if right else 1e-3),
        "back": np.array([0.2, 0.3]), "error": np.full(2, 1e-3), "times": np.array(times), "escaped": np.ones((2, 400)),
    }  # fmt: skip
    values |= {name: value for name, value in changed.items() if name in values}
    arrays |= {name: value for name, value in changed.items() if name in arrays}
    return Reading("network", values, arrays=arrays, note=note)


def addition(right: bool = True, **changed: np.ndarray) -> Reading:
    decay = np.array([5e-5, 1e-4, 2e-4, 3e-4, 4e-4])
    delay = 0.4 / decay * np.array([1.01, 0.99, 1, 1.01, 0.99]) if right else np.array([2e3, 2.1e3, 1.9e3, 2e3, 2.1e3])
    height = 0.1 * np.log(delay) if right else np.array([0, 1e-5, 0, 0, 0])
    arrays = {
        "decay": decay, "delay": delay, "height": height, "start": np.ones(5), "straight": np.ones(5),
        "rise": np.zeros(5), "train": np.ones((2, 5)), "test": np.ones((2, 5)), "at": np.arange(2.0),
    }  # fmt: skip
    if right:
        arrays["height"] = height + 0.002 * np.array([1, -1, 0, 1, -1])
    return Reading("addition", {"modulus": 31.0}, arrays=arrays | changed)


def addition_sweeps(slow: float, fast: float, settled: float = 0.5) -> list[Reading]:
    return [
        Reading(
            "addition sweep", {"area/test accuracy": area, "settled": settled}, note=note,
            arrays=ways(area, "norm", "test accuracy", "training accuracy"),
        )
        for note, area in (("sweep", slow), ("sweep, 4 times as fast", fast))
    ]  # fmt: skip


def trap(held: float, decay: float, escaped: float, fall: float = -1.14, trapped: float = 100.0) -> Reading:
    values = {"held": held, "decay": decay, "fixed": 0.0, "trapped": trapped, "escaped": escaped, "watched": 5e4}
    arrays = {"fall": np.geomspace(1, 1e-9, 50), "fall_at": np.arange(50)}
    return Reading("null", values | {"fall": fall}, arrays=arrays)


def made_states(folder: Path, right: bool) -> Runs:
    names = (("descent", 3), ("descent, depth 4", 4), ("jitter, depth 2", 2), ("Langevin", 3))
    sweeps = [sweep(name, depth, right) for name, depth in (*names, (FASTER, 3))]
    sweeps += [sweep(name, 3, right, shift) for shift in (0.01, 0.02) for name in ("Langevin", FASTER)]
    losses = {"paper/rank 0": 0.725, "paper/rank 1": 0.7024, "paper/rank 2": 0.722}
    ranks = {"rank": np.ones(20), "theory_rank": np.ones(20) * (1 if right else 2)}
    states = Reading("states", {"agree": 20.0 if right else 9.0, "of": 20.0} | losses, arrays=ranks, note="two modes")
    draws = [Reading("samples", {"rank 1": 0.35 if right else 0.3, "rank 0": 0.41})] * 8
    return {
        "1": run_of(folder / "1", {"kind": "sweeps"}, sweeps),
        "2": run_of(folder / "2", {"kind": "states"}, [states]),
        "3": run_of(folder / "3", {"kind": "samples"}, draws),
    }


def made_escapes(folder: Path, right: bool) -> Runs:
    kramers, down = Mode(3, 1.0), float(Mode(3, 0.8).descent_slope(0.33))
    slope, shape = (1.0, 1.0) if right else (1.6, 2.0)
    cold = [1 / t for t in (0.0014, 0.0012, 0.0011, 0.001)]
    runs: Runs = {}

    def add(series: str, model: str, readings: list[Reading], noise: str = "Langevin", **config: Any) -> None:
        tags = {"kind": "escapes", "series": series, "model": model, "noise": noise}
        name = f"escape {len(runs)}"
        runs[name] = run_of(folder / name, tags, readings, **{"signal": 0.8, "width": 1} | config)

    means = {t: float(kramers.kramers_time(0.3, t)) ** slope for t in (0.006, 0.0042, 0.0031, 0.0024)}
    add("chain", "chain of 3", [escape(1 / t, drawn(mean, int(1e5 * t), shape=shape)) for t, mean in means.items()],
        signal=1.0, decay=0.3)  # fmt: skip
    for width, decay, wrong in ((4, 0.25, 1e9), (10, 0.28, 1e15)):
        barrier = float(Mode(3, 0.8).barrier_up(decay))
        rise = barrier - (width - 1) * float(np.mean([1 / c for c in cold])) if right else 1.5 * barrier
        mean = (1.0 if right else wrong) / width * np.exp(rise * (np.array(cold) - cold[0]))
        times = [
            escape(c, drawn(float(m), 7 * width + i, shape=shape))
            for i, (c, m) in enumerate(zip(cold, mean, strict=True))
        ]
        add("cold", f"width {width}", times, decay=decay, width=width)
    flat = [escape(c, drawn(np.exp((0 if right else 0.05) * (c - cold[0])), 50 + i)) for i, c in enumerate(cold)]
    add("melted", "width 10", flat, decay=0.2, width=10)
    for model in ("chain of 3", "width 10"):
        times = [escape(20 * b, drawn(np.exp(slope * down * 20 * b), b, shape=shape), float(b)) for b in (6, 8, 10)]
        add("down", model, times, "batches", decay=0.33)
    pairs = [
        escape(c, drawn(100 if right or lr < 0.1 else 300, int(c + 100 * lr)), lr=lr)
        for c in (80.0, 160.0) for lr in (0.05, 0.1)
    ]  # fmt: skip
    add("rates", "width 10", pairs, "batches", decay=0.33)
    return runs


def made_traps(folder: Path, right: bool) -> Runs:
    fall = -1.14 if right else -0.5
    trials = [
        trap(2000, decay, 0 if right else 90, fall * shift)
        for decay, shift in ((0.32, 1), (0.25, 0.998), (0.03, 1.002))
    ]
    biases = [
        Reading("biases", {"biases": b, "trapped": 20.0, "escaped": 0.0 if right else 20 * b, "largest": 1e-11,
                           "held": 1200.0, "released": 40_000.0})
        for b in (0.0, 1.0)
    ]  # fmt: skip
    return {
        "4": run_of(folder / "4", {"kind": "traps", "series": "protocol"},
                    [*trials, trap(40, 0.03, 3 if right else 0, fall)], lr=0.08, trap=0.38),
        "5": run_of(folder / "5", {"kind": "biases"}, biases),
    }  # fmt: skip


def made_curves(folder: Path, right: bool) -> Runs:
    at = np.arange(0, 50_000, 500.0)

    def sparse(held: float, temperature: float, delay: float) -> Reading:
        losses = np.where(at < delay, 0.6, 0.3 if right else 0.6) * np.ones((40, 2, 1))
        values = {"held": held, "decay": 0.0025, "temperature": temperature}
        return Reading("sparse", values, arrays={"delays": np.full(40, delay), "at": at, "losses": losses})

    dwell = {"beyond": np.array([1e-3, 1e-5]), "time": np.array([100.0, 1000.0 if right else 2000.0])}
    first = np.array([[300.0, 9000.0 if right else 200.0]] * 100)
    plateau = {
        "ratio": np.array([0.9, 1.2, 2.0]), "theory": np.array([np.inf, 10.0, 5.0]),
        "time": np.array([np.inf, 10.1, 5.1]) if right else np.array([3.0, 12.0, 9.0]),
    }  # fmt: skip
    short, long = (150.0, np.inf) if right else (np.inf, 150.0)
    return {
        "6": run_of(folder / "6", {"kind": "dwell"}, [Reading("dwell", {}, arrays=dwell)]),
        "7": run_of(folder / "7", {"kind": "staged"}, [
            Reading("staged", {}, arrays={"first": first, "at": np.arange(3), "shown": np.ones((3, 2))})]),
        "8": run_of(folder / "8", {"kind": "plateau"}, [Reading("plateau", {"decay": 0.01}, arrays=plateau)]),
        "9": run_of(folder / "9", {"kind": "sparse"}, [
            sparse(250.0, 0.0, short), sparse(350.0, 0.0, long), sparse(3000.0, 1e-4, 2e4)]),
    }  # fmt: skip


def decay_trials(right: bool, name: str = "digits") -> Reading:
    steps = np.array([400.0, 420, 380, 410, 390])
    arrays = {"steps/constant": steps, "steps/scheduled": steps[::-1] * (0.5 if right else 2)}
    return Reading("decay trials", {"most": 1000.0}, arrays=arrays, note=name)


def made_schedules(folder: Path, right: bool) -> Runs:
    steps = np.array([100.0, 102, 98, 101, 99]) * (1 if right else 2)
    arrays = {"steps/constant": np.full(5, np.inf if right else 50.0), "steps/scheduled": steps}
    learn = {"closed": 100.0, "fewest": 1.0 if right else 0.9, "most": 2000.0, "final": 0.1}
    freed = {"learned": 100.0 if right else 50.0, "replicas": 100.0, "constant": 0.0, "final": 0.1}
    readings = [
        Reading("linear schedule", learn, arrays=arrays, note="depth 3, learn, 0.5 times the saddle"),
        Reading("linear schedule", freed, note="depth 3, dip, 0.5 times the saddle"),
        Reading("linear schedule", freed | {"temperature": 0.01}, note="depth 3, noise"),
    ]
    return {
        "14": run_of(folder / "14", {"kind": "linear schedules"}, readings),
        "15": run_of(folder / "15", {"kind": "decay trials"}, [decay_trials(right)]),
    }


def made_networks(folder: Path, right: bool) -> Runs:
    height = 0.0127 if right else 0.02
    path = {"depth": 3.0, "width": 4.0, "height": height, "up": 0.0127, "back": 10 * height, "down": 0.127}
    sweeps = addition_sweeps(0.5 if right else 0.02, 0.5)
    return {
        "10": run_of(folder / "10", {"kind": "paths"}, [Reading("linear path", path)]),
        "11": run_of(folder / "11", {"kind": "network"}, [network("digits, tanh", right)]),
        "12": run_of(folder / "12", {"kind": "network"}, [network("fashion, relu", right)]),
        "13": run_of(folder / "13", {"kind": "addition"}, [addition(right), *sweeps]),
    }


def made_coefficients(folder: Path, right: bool) -> Runs:
    tags = {"kind": "coefficients", "network": "narrow"}
    return {"16": run_of(folder / "16", tags, coefficient_points(right))}


def made(folder: Path, right: bool) -> Runs:
    """Records of which every claim of the theory holds, or fails, as ``right`` says."""
    parts = (made_states, made_escapes, made_traps, made_curves, made_schedules, made_networks, made_coefficients)
    return {name: run for part in parts for name, run in part(folder, right).items()}


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return made(tmp_path_factory.mktemp("right"), True)


@pytest.fixture(scope="module")
def of_right(right: Runs) -> dict[str, Finding]:
    return by_id(right)


@pytest.fixture(scope="module")
def of_wrong(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finding]:
    return by_id(made(tmp_path_factory.mktemp("wrong"), False))


def by_id(runs: Runs) -> dict[str, Finding]:
    return {found.id.partition(".")[2]: found for found in Phases().findings(runs)}


def of_one(folder: Path, kind: str, reading: Reading, *more: Reading, **config: Any) -> dict[str, Finding]:
    return by_id({"one": run_of(folder, {"kind": kind, "series": "protocol"}, [reading, *more], **config)})


@pytest.mark.parametrize("id", [*MEASURED, *CLOSED_FORMS])
def test_claims_hold_where_they_are_true(of_right: dict[str, Finding], id: str) -> None:
    found = of_right[id]
    assert (found.verdict, found.count.fails) == ("holds", 0)


@pytest.mark.parametrize("id", [id for id in MEASURED if id != "addition-delay-follows-barrier"])
def test_claims_fail_where_they_are_not_true(of_wrong: dict[str, Finding], id: str) -> None:
    assert of_wrong[id].verdict == "fails"


@pytest.mark.parametrize("id", AGAINST_THEORY)
def test_escape_by_mini_batches_fails_where_none_escaped_and_holds_where_many_did(
    of_right: dict[str, Finding], of_wrong: dict[str, Finding], id: str
) -> None:
    assert (of_right[id].verdict, of_wrong[id].verdict) == ("fails", "holds")


@pytest.mark.parametrize("id", CONTRADICTED)
def test_the_papers_own_figures_are_contradicted(of_right: dict[str, Finding], id: str) -> None:
    assert of_right[id].verdict == "fails"


def test_runs_that_are_missing_decide_nothing() -> None:
    counted = ("quoted-saddle", "quoted-barrier", "number-of-parameters")
    found = {id: one.verdict for id, one in by_id({}).items() if id not in (*CLOSED_FORMS, *counted)}
    assert set(found.values()) == {"open"}
    assert Phases().figures({}) == []


def test_pictures_are_drawn_from_the_same_records_and_claims_name_them(right: Runs) -> None:
    names = [figure.name for figure in Phases().figures(right)]
    assert names == [
        "loops", "langevin", "batches", "distributions", "null", "sparse", "sparse-noise", "staged",
        "coefficients", "networks", "network-delays", "addition-loops", "addition",
    ]  # fmt: skip
    assert {tested.claim.figure for topic in Phases.topics for tested in topic.claims} - {""} <= set(names)


@pytest.mark.parametrize(
    ("slow", "settled", "verdict"), [(0.9, 0.5, "holds"), (0.5, 0.5, "open"), (0.9, 0.4, "open"), (0.05, 0.5, "fails")]
)
def test_a_loop_that_shrinks_with_the_rate_of_the_sweep_or_has_not_settled_decides_nothing(
    tmp_path: Path, slow: float, settled: float, verdict: str
) -> None:
    found = of_one(tmp_path / "run", "addition", *addition_sweeps(slow, 1.0, settled))["addition-loop"]
    assert found.verdict == verdict
    assert bool(found.needs) == (verdict == "open")


def test_the_area_of_a_loop_between_few_decays_has_the_error_that_halving_them_shows(tmp_path: Path) -> None:
    narrow = {"decays": np.geomspace(0.01, 0.1, 5), "up/norm": np.array([1, 1, 1, 0, 0.0]),
              "down/norm": np.array([1, 0.6, 1, 0, 0.0])}  # fmt: skip
    found = of_one(tmp_path / "run", "network", network("digits, tanh", **narrow))["networks-have-loops"]
    (case,) = found.cases
    assert case.value == pytest.approx(0.4 * np.log(10) / 4)  # one triangle, which every other decay misses
    assert (case.verdict, case.high) == ("open", pytest.approx(11 * case.value))


def test_a_network_that_stayed_trapped_or_had_no_barrier_decides_nothing(tmp_path: Path) -> None:
    def said(name: str, id: str = "delay-follows-barrier", **changed: Any) -> Finding:
        return of_one(tmp_path / name, "network", network("digits, tanh", **changed))[id]

    never, none = np.zeros((2, 400)), np.zeros((0, 5))
    assert said("trapped", escaped=never).verdict == "open"
    assert said("none", times=none, escaped=none).verdict == "open"
    lost = np.array([np.nan, 0.05])
    assert said("path", height=lost).verdict == "open"
    assert said("path of one", "barrier-between-ways", height=lost).verdict == "open"
    assert said("moving", "networks-have-loops", settled=0.4).verdict == "open"
    narrow = network("digits, tanh", right=False, settled=0.4, **{"area/norm": 0.01})
    found = of_one(tmp_path / "moving, no loop", "network", narrow)["networks-have-loops"]
    assert found.verdict == "fails"  # a loop that has not settled would be still narrower
    one = said("one", escaped=np.vstack([np.ones(400), np.zeros(400)]))
    rows = {row.quantity: row.value for row in one.cases[0].beside}
    assert (one.verdict, rows["escaped of 400 (1)"], rows["barrier 1 / T"]) == ("open", 400, pytest.approx(10))


def test_a_delay_that_falls_as_its_barrier_rises_does_not_follow_it(tmp_path: Path) -> None:
    height = 0.1 + np.array([0.01, 0.02, 0.03, 0.041, 0.05])  # by rising decay, while the delay falls
    found = of_one(tmp_path / "a", "addition", addition(height=height))
    assert found["addition-delay-has-barrier"].verdict == "holds"
    assert found["addition-delay-follows-barrier"].verdict == "fails"
    three = np.array([1e4, 5e3, 2e3, np.inf, np.inf])
    assert of_one(tmp_path / "b", "addition", addition(delay=three))["addition-delay-follows-barrier"].verdict == "open"


@pytest.mark.parametrize(("count", "verdict"), [(40, "open"), (4000, "fails")])
def test_a_slope_outside_its_region_fails_only_with_its_whole_interval(
    tmp_path: Path, count: int, verdict: str
) -> None:
    cold = [1 / t for t in (0.0014, 0.0012, 0.0011, 0.001)]
    rise = 1.3 * (Mode(3, 0.8).barrier_up(0.25) - 3 * np.mean([1 / c for c in cold]))
    readings = [escape(c, drawn(float(np.exp(rise * (c - cold[0]))), 90 + i, count)) for i, c in enumerate(cold)]
    tags = {"kind": "escapes", "series": "cold", "model": "width 4", "noise": "Langevin"}
    found = by_id({"one": run_of(tmp_path / "one", tags, readings, signal=0.8, decay=0.25, width=4)})["entropy-slope"]
    assert found.verdict == verdict
    assert ("more escapes" in found.needs) == (verdict == "open")


def test_networks_that_were_never_trapped_decide_nothing(tmp_path: Path) -> None:
    found = of_one(tmp_path / "a", "traps", trap(2000, 0.32, 0, trapped=0), lr=0.08, trap=0.38)
    for id in ("batches-escape-in-time", "batches-escape-at-all"):
        assert (found[id].verdict, "longer trap" in found[id].needs) == ("open", True)


def test_few_networks_without_an_escape_say_how_many_epochs_would_decide(tmp_path: Path) -> None:
    values = {"biases": 1.0, "trapped": 3.0, "escaped": 0.0, "largest": 1e-9, "held": 1200.0, "released": 2400.0}
    found = of_one(tmp_path / "a", "biases", Reading("biases", values))["biases-help"]
    # Garwood: none in n epochs allows 3.689/n; ln 2 in 10,000 epochs is excluded from n = 53,220 on
    missing = int(np.ceil(-np.log(0.025) / np.log(2) * 1e4)) - 900
    assert found.verdict == "open"
    assert found.needs == f"about {missing:,} more epochs of such networks without an escape"


def test_trials_of_one_protocol_are_one_case(tmp_path: Path) -> None:
    trials = [trap(2000, 0.32, escaped) for escaped in (0, 90)] + [trap(2000, 0.25, 90)]
    found = of_one(tmp_path / "a", "traps", *trials, lr=0.08, trap=0.38)["batches-escape-in-time"]
    assert [case.value for case in found.cases] == [pytest.approx(90 / 156_250 * 1e4), pytest.approx(90 / 78_125 * 1e4)]
