"""The verdicts of study `geometries` on records made by hand, whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgescope.measures import Reading
from edgescope.report import Finding
from edgescope.store import Record
from edgescope.studies.geometries.claims import geometry_findings
from edgescope.studies.geometries.pictures import geometry_figures
from edgescope.studies.geometries.quadratics import QuadraticsTask
from edgescope.studies.geometries.runs import METHODS, DescentTask, geometry_tasks

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
) -> Record:
    """A run whose S hovers ``height`` above its threshold from step ``crosses`` on, and whose D is ``smooth`` there."""
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
            change = 1e-3 * (-first + (LR**2 if normalized else (LR * DUAL) ** 2) * d / 2)
            values = {"": d, "predicted": change * 1e3, "actual": change * 1e3 + wrong, "dual_norm": DUAL}
            values |= {"threshold": threshold, "ratio": d / threshold}
            readings.append(Reading("directional_smoothness", values, {"actual": 1e-15}, note="by differences"))
            loss = max(loss + change, 1e-3)
        if step >= 2:
            readings.append(Reading("oscillation", {"": -0.5 if step >= onset else 0.9}))
        if step % EVERY == 0:
            ratio = height + 0.02 * np.sin(step) if step >= crosses else 0.6
            s = ratio * threshold
            values = {"lower": s, "upper": s * upper, "threshold": threshold, "ratio": ratio}
            readings.append(Reading("generalized_sharpness", values, {"lower": s * (upper - 1)}))
            top = {"1": plain * 2 / LR} if method != "GD" else {}
            if method == "GD":
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


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Record]:
    made = {f"MLP-{method}": record_of(tmp_path / method, method) for method in METHODS if method != "blocks"}
    made["MLP-blocks"] = record_of(tmp_path / "blocks", "blocks", plain=1.4)
    made["Chen-CNN"] = record_of(tmp_path / "chen", "Chen", crosses=20)
    made |= {f"RMSProp-{beta}": rmsprop_of(tmp_path / f"r{beta}", r) for beta, r in (("0.99", 1.05), ("0", 40.0))}
    return made


def finding(runs: dict[str, Record], words: str) -> Finding:
    (found,) = [f for f in geometry_findings(runs) if words in f.claim]
    return found


CLAIMS = {
    "GD": "Under gradient descent S and D",
    "preconditioned": "Under preconditioned",
    "Linf": "Under Linf descent S and D",
    "blocks": "Under block descent",
    "spectral": "Under Spectral descent S and D",
    "sign": "Under sign descent",
    "muon": "Under normalized Spectral",
    "plain": "far below 2/η",
    "order": "outputs oscillate before",
    "several": "several directions",
    "model": "quadratic Taylor model",
    "norms": "at least the largest eigenvalue",
    "identity": "A step of descent changes",
    "rises": "exactly when D",
    "chen": "approaches 2/η",
    "rmsprop": "RMSProp",
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_claim_holds_where_it_is_true(runs: dict[str, Record], claim: str) -> None:
    assert finding(runs, CLAIMS[claim]).verdict == "holds"


@pytest.mark.parametrize(
    ("claim", "name", "more"),
    [
        ("GD", "MLP-GD", {"height": 1.4}),
        ("Linf", "MLP-Linf", {"smooth": 0.8}),
        ("spectral", "MLP-spectral", {"smooth": 1.2}),
        ("blocks", "MLP-blocks", {"height": 1.35, "plain": 1.4}),
        ("sign", "MLP-sign", {"height": 1.3}),
        ("muon", "MLP-spectral-normalized", {"height": 1.25}),
        ("plain", "MLP-spectral", {"plain": 0.6}),
        ("order", "MLP-Linf", {"onset": 150}),
        ("several", "MLP-GD", {"height": 1.001, "several": False}),
        ("model", "MLP-Linf", {"model": 20.0}),
        ("model", "MLP-Linf", {"network": 200.0}),
        ("norms", "MLP-Linf", {"plain": 3.0}),
        ("norms", "MLP-blocks", {"plain": 0.5}),
        ("identity", "MLP-spectral", {"wrong": 1e-6}),
        ("rises", "MLP-spectral", {"wrong": 0.2}),
        ("chen", "Chen-CNN", {"smooth": 1.15, "crosses": 20}),
    ],
)
def test_every_claim_fails_on_a_counter_example(
    runs: dict[str, Record], tmp_path: Path, claim: str, name: str, more: dict[str, Any]
) -> None:
    runs[name] = record_of(tmp_path / "counter", name.partition("-")[2], **more)
    assert finding(runs, CLAIMS[claim]).verdict == "fails"


@pytest.mark.parametrize("claim", ["GD", "sign", "plain", "order"])
def test_a_run_that_never_arrives_cannot_tell(runs: dict[str, Record], tmp_path: Path, claim: str) -> None:
    name = {"GD": "MLP-GD", "sign": "MLP-sign"}.get(claim, "MLP-Linf")
    runs[name] = record_of(tmp_path / "early", name.partition("-")[2], crosses=10 * STEPS)
    assert finding(runs, CLAIMS[claim]).verdict == "inconclusive"


def test_norms_are_undecided_where_the_bracket_holds_the_eigenvalue(runs: dict[str, Record], tmp_path: Path) -> None:
    runs["MLP-Linf"] = record_of(tmp_path / "between", "Linf", plain=0.65, upper=1.2)
    assert finding(runs, CLAIMS["norms"]).verdict == "inconclusive"


def test_rmsprop_says_nothing_without_a_long_memory_at_its_edge(runs: dict[str, Record], tmp_path: Path) -> None:
    runs["RMSProp-0"] = rmsprop_of(tmp_path / "steady", 1.1)
    assert finding(runs, CLAIMS["rmsprop"]).verdict == "fails"
    runs["RMSProp-0.99"] = rmsprop_of(tmp_path / "off", 0.2)
    assert finding(runs, CLAIMS["rmsprop"]).verdict == "inconclusive"


def test_the_first_rise_is_judged_where_a_run_is_long_enough(runs: dict[str, Record], tmp_path: Path) -> None:
    assert finding(runs, "first rises").verdict == "inconclusive"  # on other data than the paper's
    early, cifar = runs["Chen-CNN"], runs["Chen-CNN"].config | {"data": "cifar10"}
    runs["Chen-CNN"] = Record.create(tmp_path / "soon", config=cifar)
    for step, loss in enumerate(early.series("training_loss")[1]):
        smooth = Reading("directional_smoothness", {"": 1.0, "ratio": 1.0, "actual": -1e-4}, {"actual": 1e-12})
        runs["Chen-CNN"].append(step, [Reading("training_loss", {"": float(loss)}), smooth])
    assert finding(runs, "first rises").verdict == "fails"
    late = Record.create(tmp_path / "late", config=cifar)
    for step in range(1400):
        smooth = Reading("directional_smoothness", {"": 1.0, "ratio": 1.0, "actual": -1e-4}, {"actual": 1e-12})
        late.append(step, [Reading("training_loss", {"": 1.0 - 1e-4 * step + 0.01 * (step > 1300)}), smooth])
    runs["Chen-CNN"] = late
    found = finding(runs, "first rises")
    assert (found.verdict, found.measured) == ("holds", {"Chen-CNN: first rise": 1301})


def test_quadratics_converge_and_diverge_as_the_sharpness_says(tmp_path: Path) -> None:
    QuadraticsTask("quadratics", seed=5, draws=1).run(tmp_path / "q", lambda share, words: None)
    with Record.open(tmp_path / "q") as record:
        assert finding({"quadratics": record}, "On a quadratic").verdict == "holds"
        assert [f.name for f in geometry_figures({"quadratics": record})] == ["quadratics"]
        above, line = (record.series("quadratic", f"{kind}/Linf/0")[1] for kind in ("above", "line"))
        assert above[-1] == pytest.approx(1.04**300, rel=1e-6)
        np.testing.assert_allclose(above, line, rtol=1e-9)


def test_pictures_are_drawn_from_the_same_records(runs: dict[str, Record]) -> None:
    names = [figure.name for figure in geometry_figures(runs)]
    assert names == ["sharpness-mlp", "settled", "plain-mlp", "loss-mlp", "model-mlp", "rmsprop", "chen"]


@pytest.mark.parametrize("preset", ["quick", "full"])
def test_every_run_of_a_preset_is_a_valid_configuration(preset: str) -> None:
    tasks = geometry_tasks(preset, seed=3)  # type: ignore[arg-type]
    assert len({task.name for task in tasks}) == len(tasks) >= 20
    assert {f"MLP-{method}" for method in METHODS} <= {task.name for task in tasks}


@pytest.mark.parametrize("method", ["Linf", "sign"])
def test_the_rule_puts_the_start_that_far_below_the_threshold(method: str, tmp_path: Path) -> None:
    (task,) = [t for t in geometry_tasks("quick", seed=0) if t.name == f"MLP-{method}"]
    assert isinstance(task, DescentTask)
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
