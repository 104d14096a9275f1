"""The verdicts of study `geometries` on records made by hand, whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_claim import finding_of

from edgescope.claims import Finding
from edgescope.experiments.geometries.quadratics import QuadraticsTask
from edgescope.experiments.geometries.runs import METHODS, BelowThresholdTask, geometry_tasks
from edgescope.experiments.preset import Preset
from edgescope.experiments.study_run import StudyRun
from edgescope.measures import Reading
from edgescope.store import Record
from edgescope.studies.geometries import Geometries
from edgescope.studies.geometries.figures import geometry_figures

LR, STEPS, EVERY, CROSSES = 0.1, 300, 10, 60
DUAL = 2.0


def record_of(
    folder: Path,
    method: str,
    *,
    height: float = 1.05,
    smooth: float = 1.0,
    plain: float = 0.2,
    onset: int = 30,
    model: float = np.inf,
    network: float = 1.5,
    upper: float = 1.2,
    wrong: float = 0.0,
    crosses: int = CROSSES,
    several: bool = True,
    dip: float | None = None,
    at_threshold: float = 0.0,
) -> Record:
    """A run whose S hovers ``height`` above its threshold from step ``crosses`` on, and whose D is ``smooth`` there.

    After its first reading above the threshold S falls to ``dip`` of it; ``at_threshold`` puts D that little above the
    threshold at every step while the loss falls.
    """
    optimizer = METHODS.get(method, METHODS["spectral-normalized"])
    record = Record.create(
        folder, config={"lr": LR, "optimizer": optimizer, "dtype": "float64", "loss": "mse", "model": "m", "data": "d"}
    )
    normalized = "normalized=true" in optimizer
    threshold = 2 / LR * (DUAL if normalized else 1.0)
    loss = 1.0
    for step in range(STEPS + 1):
        swing = (-1) ** step * 0.2 if step >= crosses else 0.0
        readings = [Reading("training_loss", {"": loss})]
        if step:
            d = threshold * (smooth + swing if step >= crosses else 0.6)
            first = LR * DUAL if normalized else LR * DUAL**2
            if at_threshold:
                d = threshold * (1 + at_threshold)
            change = 1e-3 * (-first + (LR**2 if normalized else (LR * DUAL) ** 2) * d / 2)
            actual = -5e-15 if at_threshold else change * 1e3 + wrong
            values = {"": d, "predicted": change * 1e3, "actual": actual, "dual_norm": DUAL}
            values |= {"threshold": threshold, "ratio": d / threshold}
            readings.append(Reading("directional_smoothness", values, {"actual": 1e-15}, note="by differences"))
            loss = max(loss + change, 1e-3)
        if step >= 2:
            readings.append(Reading("oscillation", {"": -0.5 if step >= onset else 0.9}))
        if step % EVERY == 0:
            ratio = height + 0.02 * np.sin(step) if step >= crosses else 0.6
            ratio = dip + 0.02 * np.sin(step) if dip and step > crosses else ratio
            s = ratio * threshold
            values = {"lower": s, "upper": s * upper, "threshold": threshold, "ratio": ratio}
            readings.append(Reading("generalized_sharpness", values, {"lower": s * (upper - 1)}))
            top = {"1": plain * 2 / LR} if method != "gd" else {}
            if method == "gd":
                count = 1 + int(np.sin(step) > 0) + int(np.sin(step) > 0.5) if several and step >= crosses else 0
                top = {str(k): s if k == 1 else (1.01 if k <= count else 0.5) * 2 / LR for k in (1, 2, 3, 4)}
            readings.append(Reading("sharpness", top, dict.fromkeys(top, 1e-6)))
        if step == STEPS:
            arrays = {"network": np.linspace(1, network, 101), "model": np.linspace(1, min(model, 1e3), 101)}
            readings.append(Reading("quadratic_model", {"model": model, "network": network}, arrays=arrays))
        record.append(step, readings)
    record.set_status("finished")
    return record


def rmsprop_of(folder: Path, ratio: float) -> Record:
    record = Record.create(folder, config={"lr": LR, "optimizer": "rmsprop", "dtype": "float64"})
    for step in range(0, STEPS + 1, EVERY):
        record.append(step, [Reading("ratio", {"": ratio})])
    return record


Runs = dict[str, StudyRun]
ROLES = {"Chen": "chen", "RMSProp": "rmsprop", "quadratics": "quadratics"}


def run_of(name: str, record: Record) -> StudyRun:
    """A run with the tags that its task would give it."""
    network, _, rest = name.partition("-")
    role = ROLES.get(network, "descent")
    method = rest if role == "descent" else "spectral-normalized"
    normalized = "yes" if "normalized=true" in METHODS.get(method, "") else "no"
    tags = {"role": role, "method": method, "network": rest if role == "chen" else "MLP", "normalized": normalized}
    return StudyRun(name, record, tags | {"precision": "float64", "beta2": rest})


@pytest.fixture(scope="module")
def true_runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("true")
    made = {f"MLP-{method}": record_of(folder / method, method) for method in METHODS if method != "blocks"}
    made["MLP-blocks"] = record_of(folder / "blocks", "blocks", plain=1.4)
    made["Chen-CNN"] = record_of(folder / "chen", "Chen", crosses=20)
    made |= {f"RMSProp-{beta}": rmsprop_of(folder / f"r{beta}", r) for beta, r in (("0.99", 1.05), ("0", 40.0))}
    return {name: run_of(name, record) for name, record in made.items()}


@pytest.fixture
def runs(true_runs: Runs) -> Runs:
    """A copy, in which a test may replace a run."""
    return dict(true_runs)


def finding(runs: Runs, id: str) -> Finding:
    return finding_of(Geometries, runs, id)


METHODS_HOVERING = ("gd", "preconditioned", "linf", "blocks", "spectral")
HOVERING = [f"{m}-{w}" for m in METHODS_HOVERING for w in ("smoothness", "sharpness", "sharpness-near")]
CLAIMS = [
    *HOVERING,
    "gd-settles",
    "sign-sharpness",
    "spectral-normalized-sharpness",
    "plain-eigenvalue",
    "outputs-oscillate-first",
    "several-directions",
    "more-directions-higher-sharpness",
    "sharpness-above-eigenvalue",
    "sharpness-below-eigenvalue",
    "model-diverges",
    "network-does-not-diverge",
    "descent-identity",
    "rises-exactly-above",
    "chen-settles",
    "rmsprop-forgets",
]


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_claim_holds_where_it_is_true(runs: Runs, claim: str) -> None:
    assert finding(runs, claim).verdict == "holds"


@pytest.mark.parametrize(
    ("claim", "name", "more"),
    [
        ("gd-sharpness-near", "MLP-gd", {"height": 1.4}),
        ("gd-settles", "MLP-gd", {"height": 1.2}),
        ("linf-smoothness", "MLP-linf", {"smooth": 0.8}),
        ("spectral-smoothness", "MLP-spectral", {"smooth": 1.2}),
        ("spectral-sharpness", "MLP-spectral", {"dip": 0.5}),
        ("blocks-sharpness-near", "MLP-blocks", {"height": 1.35, "plain": 1.4}),
        ("sign-sharpness", "MLP-sign", {"height": 1.3}),
        ("spectral-normalized-sharpness", "MLP-spectral-normalized", {"height": 1.25}),
        ("plain-eigenvalue", "MLP-spectral", {"plain": 0.6}),
        ("outputs-oscillate-first", "MLP-linf", {"onset": 150}),
        ("several-directions", "MLP-gd", {"height": 1.001, "several": False}),
        ("model-diverges", "MLP-linf", {"model": 20.0}),
        ("network-does-not-diverge", "MLP-linf", {"network": 200.0}),
        ("sharpness-above-eigenvalue", "MLP-linf", {"plain": 3.0}),
        ("sharpness-below-eigenvalue", "MLP-blocks", {"plain": 0.5}),
        ("descent-identity", "MLP-spectral", {"wrong": 1e-6}),
        ("rises-exactly-above", "MLP-spectral", {"wrong": 0.2}),
        ("chen-settles", "Chen-CNN", {"smooth": 1.15, "crosses": 20}),
    ],
)
def test_a_claim_no_longer_holds_with_a_counter_example(
    runs: Runs, tmp_path: Path, claim: str, name: str, more: dict[str, Any]
) -> None:
    runs[name] = run_of(name, record_of(tmp_path / "counter", name.partition("-")[2], **more))
    found = finding(runs, claim)
    assert found.verdict == ("mixed" if found.count.holds else "fails")
    assert found.count.fails == 1


@pytest.mark.parametrize("claim", ["gd-sharpness", "sign-sharpness", "plain-eigenvalue", "outputs-oscillate-first"])
def test_a_run_that_never_arrives_is_open(runs: Runs, tmp_path: Path, claim: str) -> None:
    name = {"gd-sharpness": "MLP-gd", "sign-sharpness": "MLP-sign"}.get(claim, "MLP-linf")
    runs[name] = run_of(name, record_of(tmp_path / "early", name.partition("-")[2], crosses=10 * STEPS))
    assert finding(runs, claim).count.open == 1


def test_norms_are_undecided_where_the_bracket_holds_the_eigenvalue(runs: Runs, tmp_path: Path) -> None:
    runs["MLP-linf"] = run_of("MLP-linf", record_of(tmp_path / "between", "linf", plain=0.65, upper=1.2))
    assert finding(runs, "sharpness-above-eigenvalue").count.open == 1


def test_signs_within_rounding_do_not_refute_the_identity(runs: Runs, tmp_path: Path) -> None:
    runs["MLP-spectral"] = run_of("MLP-spectral", record_of(tmp_path / "rounding", "spectral", at_threshold=1e-15))
    found = finding(runs, "rises-exactly-above")
    (case,) = [case for case in found.cases if case.case == "MLP-spectral"]
    assert (found.verdict, case.value) == ("holds", 0)
    assert {row.quantity: row.value for row in case.beside}["wrong within rounding"] > 0
    runs["MLP-spectral"] = run_of("MLP-spectral", record_of(tmp_path / "beyond", "spectral", at_threshold=1e-9))
    assert finding(runs, "rises-exactly-above").verdict == "mixed"


def test_rmsprop_says_nothing_without_a_long_memory_at_its_edge(runs: Runs, tmp_path: Path) -> None:
    runs["RMSProp-0"] = run_of("RMSProp-0", rmsprop_of(tmp_path / "steady", 1.1))
    assert finding(runs, "rmsprop-forgets").verdict == "fails"
    runs["RMSProp-0"] = run_of("RMSProp-0", rmsprop_of(tmp_path / "low", 0.1))
    assert finding(runs, "rmsprop-forgets").verdict == "holds"
    runs["RMSProp-0.99"] = run_of("RMSProp-0.99", rmsprop_of(tmp_path / "off", 0.2))
    assert finding(runs, "rmsprop-forgets").verdict == "open"


def test_the_first_rise_is_judged_where_a_run_is_long_enough(runs: Runs, tmp_path: Path) -> None:
    assert finding(runs, "chen-first-rise").verdict == "open"  # on other data than the paper's
    early = runs["Chen-CNN"].record
    cifar = early.config | {"data": "cifar10"}
    soon = Record.create(tmp_path / "soon", config=cifar)
    for step, loss in enumerate(early.series("training_loss")[1]):
        smooth = Reading("directional_smoothness", {"": 1.0, "ratio": 1.0, "actual": -1e-4}, {"actual": 1e-12})
        soon.append(step, [Reading("training_loss", {"": float(loss)}), smooth])
    runs["Chen-CNN"] = run_of("Chen-CNN", soon)
    assert finding(runs, "chen-first-rise").verdict == "fails"
    late = Record.create(tmp_path / "late", config=cifar)
    for step in range(1400):
        smooth = Reading("directional_smoothness", {"": 1.0, "ratio": 1.0, "actual": -1e-4}, {"actual": 1e-12})
        late.append(step, [Reading("training_loss", {"": 1.0 - 1e-4 * step + 0.01 * (step > 1300)}), smooth])
    runs["Chen-CNN"] = run_of("Chen-CNN", late)
    found = finding(runs, "chen-first-rise")
    assert (found.verdict, found.measured) == ("holds", {"Chen-CNN": 1301})


def test_quadratics_converge_and_diverge_as_the_sharpness_says(tmp_path: Path) -> None:
    QuadraticsTask("quadratics", seed=5, draws=1).run(tmp_path / "q", lambda share, words: None)
    with Record.open(tmp_path / "q") as record:
        runs = {"quadratics": run_of("quadratics", record)}
        for claim in ("growth", "diverges", "falls", "converges"):
            found = finding(runs, f"quadratic-{claim}")
            assert (found.verdict, found.count.holds) == ("holds", 5)
        assert [f.name for f in geometry_figures(runs)] == ["quadratics"]
        above, line = (record.series("quadratic", f"{kind}/Linf/0")[1] for kind in ("above", "line"))
        assert above[-1] == pytest.approx(1.04**300, rel=1e-6)
        np.testing.assert_allclose(above, line, rtol=1e-9)


def test_pictures_are_drawn_from_the_same_records(runs: Runs) -> None:
    names = [figure.name for figure in geometry_figures(runs)]
    assert names == ["sharpness-mlp", "settled", "plain-mlp", "loss-mlp", "model-mlp", "rmsprop", "chen"]


@pytest.mark.parametrize("preset", ["quick", "full", "paper"])
def test_every_run_of_a_preset_is_a_valid_configuration(preset: Preset) -> None:
    tasks = geometry_tasks(preset, seed=3)
    assert len({task.name for task in tasks}) == len(tasks) >= 20
    on_mlp = {t.tags["method"] for t in tasks if t.tags.get("network") == "MLP" and t.tags["role"] == "descent"}
    assert on_mlp == set(METHODS)


@pytest.mark.parametrize("method", ["linf", "sign"])
def test_the_rule_puts_the_start_that_far_below_the_threshold(method: str, tmp_path: Path) -> None:
    every = geometry_tasks("quick", seed=0)
    (task,) = [t for t in every if (t.tags.get("network"), t.tags.get("method")) == ("MLP", method)]
    assert isinstance(task, BelowThresholdTask)
    from dataclasses import replace

    small = replace(
        task.config,
        data="fashion-5k:train=20,test=10,pool=4",
        model="mlp:widths=4",
        steps=2,
        every=1,
        measures=("generalized_sharpness", "training_loss@1"),
    )
    replace(task, config=small).run(tmp_path / "a", lambda share, words: None)
    with Record.open(tmp_path / "a") as record:
        assert record.status == "finished"
        assert record.series("generalized_sharpness", "ratio")[1][0] == pytest.approx(1 / task.below, rel=0.01)
    replace(task, config=small).run(tmp_path / "a", lambda share, words: None)  # resumes at the same rate
