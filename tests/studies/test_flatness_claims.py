"""Verdicts of the study `flatness` on records of known truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from one_claim import finding_of

from edgescope.claims import Finding
from edgescope.experiments.flatness.constructions import ConstructionsTask
from edgescope.experiments.flatness.runs import NETWORKS, PAPER, RADII
from edgescope.experiments.flatness.sample_sizes import scale
from edgescope.experiments.study_run import Runs, StudyRun
from edgescope.measures import Reading
from edgescope.store import Record
from edgescope.studies.flatness import Flatness
from edgescope.studies.flatness.figures import flatness_figures
from edgescope.studies.flatness.least_trace import NEAR
from edgescope.studies.flatness.other_minimizers import ALMOST
from edgescope.studies.flatness.with_bias import FLAT, GAP
from edgescope.studies.stated_claim import read_claims


def quiet(share: float, words: str) -> None:
    pass


def test_the_constructions_hold(tmp_path: Path) -> None:
    task = ConstructionsTask("constructions", 1.0, seed=4)
    task.run(tmp_path, quiet)
    with Record.open(tmp_path) as record:
        runs = {"constructions": StudyRun("constructions", record, {"role": "constructions"})}
        for id, cases in CONSTRUCTED.items():
            found = finding(runs, id)
            assert (found.verdict, found.count.all) == ("holds", cases)
        traces = {c.case: row.value for c in finding(runs, "closed-forms-flattest").cases for row in c.beside[:1]}
        assert traces["bias, memorizing"] == pytest.approx(22.271, abs=1e-3)
        assert finding(runs, "scenario-three-generalizes").verdict == "open"


CONSTRUCTED = {
    "trace-lemma": 6,
    "closed-forms-flattest": 6,
    "closed-forms-interpolate": 6,
    "flattest-generalize": 4,
    "flattest-memorize": 2,
}


@pytest.mark.parametrize(
    ("id", "figure", "value"),
    [
        ("trace-lemma", "lemma", 2e-6),
        ("closed-forms-flattest", "trace", 20.1),
        ("closed-forms-interpolate", "residual", 0.01),
        ("flattest-generalize", "error", 1e-6),
        ("flattest-memorize", "error", 0.9),
    ],
)
def test_a_network_in_closed_form_that_is_not_what_it_should_be_refutes_its_claim(
    id: str, figure: str, value: float, tmp_path: Path
) -> None:
    right = {"trace": 20.0, "least": 20.0, "residual": 0.0, "lemma": 0.0}
    values = {f"bias, {kind}: {k}": v for kind, e in KINDS.items() for k, v in (right | {"error": e}).items()}
    values |= {f"bias, {kind}: {figure}": value for kind in KINDS}
    with Record.create(tmp_path / "r", config={}) as record:
        record.append(0, [Reading("construction", values)])
        assert finding({"c": StudyRun("c", record, {"role": "constructions"})}, id).verdict == "fails"


KINDS = {"memorizing": 1.0, "generalizing": 0.0}

# Records of known truth: trace over the least one, and test error, of every run.

TRUTH: dict[tuple[str, str], tuple[float, float]] = {
    ("no-bias", "1SAM"): (1.3, 0.001),
    ("no-bias", "GD"): (4.0, 0.002),
    ("no-bias", "noise"): (1.35, 0.0),
    ("no-bias", "SAM"): (1.4, 0.01),
    ("bias", "1SAM"): (1.02, 0.3),
    ("bias", "GD"): (3.0, 0.0),
    ("bias", "noise"): (1.05, 0.25),
    ("bias", "SAM"): (1.1, 0.2),
    ("bias-narrow", "1SAM"): (1.03, 0.28),
    ("batchnorm", "1SAM"): (1.05, 0.001),
    ("batchnorm", "noise"): (1.1, 0.02),
    ("batchnorm", "SAM"): (1.1, 0.03),
    ("layernorm", "1SAM"): (1.01, 0.03),
    ("layernorm", "noise"): (1.1, 0.01),
    ("layernorm", "SAM"): (1.15, 0.02),
    ("softplus", "1SAM"): (np.nan, 0.4),
    ("softplus", "SGD"): (np.nan, 0.01),
    ("logistic", "1SAM"): (1.0, 0.4),
    ("logistic", "SGD"): (2.0, 0.0),
    ("three-layers", "1SAM"): (1.0, 0.4),
    ("three-layers", "SGD"): (2.0, 0.1),
    ("ball-no-bias", "1SAM"): (1.0, 0.05),
    ("ball-bias", "1SAM"): (1.0, 0.2),
}
SCENARIOS = ("no-bias", "bias", "batchnorm", "layernorm")
LEAST = 20.0
EPOCHS = (0, 10, 4000, 40_000)
SEEDS = range(3)


def run_of(record: Record, folder: Path, **tags: str) -> StudyRun:
    return StudyRun(folder.name, record, tags)


def trained(
    folder: Path,
    network: str,
    method: str,
    excess: float,
    error: float,
    *,
    early: float = 0.3,
    peak: float = 0.0,
    falling: float = 0.0,
    unfitted: float = 0.0,
    columns: float = 6.0,
) -> StudyRun:
    """Three seeds that end at these values, having had the test error ``early`` at epoch 10, ``peak`` at 4,000."""
    record = Record.create(folder, config={"data": "xor", "epochs": EPOCHS[-1], "lr": 0.01, "optimizer": "SAM"})
    known = np.isfinite(excess)
    for epoch, at in zip(EPOCHS, (0.5, early, peak, error), strict=True):
        trace = LEAST * (excess if known else 1.0 + (method == "SGD"))
        values = {
            "test_error": at,
            "training_error": unfitted,
            "training_loss": 1e-3,
            "trace": trace * (1 + (falling if epoch < EPOCHS[-1] else 0)),
            "least_trace": LEAST if known else np.nan,
            "column_ratio": columns,
        }
        each = [Reading(key, {str(s): v * (1 + 0.01 * s) for s in SEEDS}) for key, v in values.items()]
        each[4] = Reading("least_trace", {str(s): values["least_trace"] for s in SEEDS})
        weights = Reading("neurons", {}, arrays={"0": np.outer(np.arange(1, 4), np.linspace(-1, 1, 30))})
        record.append(epoch * 100, [*each, weights])
    record.set_status("finished")
    return run_of(record, folder, role="descent", network=network, method=method)


def sample_sizes(folder: Path, dim: int, power: float = 1.0) -> StudyRun:
    """Errors that reach 0.05 at n = d log d, or at d^power / 5; a little later with every seed."""
    record = Record.create(folder, config={"dim": dim})
    needed = scale(dim) if power == 1 else dim**power / 5
    for n in (0.5 * needed, needed, 2 * needed):
        errors = {str(s): max(0.51 + 0.002 * s - 0.45 * n / needed, 0.0) for s in SEEDS}
        record.append(round(n), [Reading("test_error", errors)])
    return run_of(record, folder, role="sample-sizes", dim=str(dim))


def user_run(
    folder: Path, number: int, seed: int, less: float = 1.0, gain: float = 0.01, error: float = 0.1
) -> StudyRun:
    """A run of the user's network by SGD (``number`` 0), or by SAM at a radius: its sharpness and accuracy."""
    record = Record.create(folder, config={"seed": seed})
    flat = less * number
    readings = [
        Reading("hessian_trace", {"": 50 - 5 * flat + seed}, {"": error}),
        Reading("sharpness", {"1": 20 - 3 * flat}),
        Reading("worst_case_sharpness", {"": 1.0}),
        Reading("accuracy", {"test": 0.8 + gain * number + 0.001 * seed * (number % 2)}),
    ]
    record.append(100, readings)
    record.set_status("finished")
    method = {"method": "SAM", "rho": f"{RADII[number - 1]:g}"} if number else {"method": "SGD"}
    return run_of(record, folder, role="user", seed=str(seed), **method)


def rescaled(folder: Path, drift: float = 0.0, factor: float = 4.0) -> StudyRun:
    """Three doublings that change the loss by ``drift`` and the largest eigenvalue by ``factor`` each."""
    record = Record.create(folder, config={})
    for doublings in range(4):
        flat = {"hessian_trace": 30.0, "worst_case_sharpness": 1.0}
        readings = [Reading(name, {"": value}) for name, value in flat.items()]
        sharp = Reading("sharpness", {"1": 10.0 * factor**doublings})
        record.append(doublings, [*readings, sharp, Reading("loss", {"train": 0.4 + drift * doublings})])
    record.set_status("finished")
    return run_of(record, folder, role="rescaled")


def finding(runs: Runs, id: str) -> Finding:
    return finding_of(Flatness, runs, id)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("base")
    runs = [trained(folder / "-".join(key), *key, *truth) for key, truth in TRUTH.items()]
    runs += [sample_sizes(folder / f"samples-d{dim}", dim) for dim in (10, 20, 40)]
    runs += [user_run(folder / f"user-{n}-{s}", n, s) for n in range(len(RADII) + 1) for s in SEEDS]
    runs.append(rescaled(folder / "rescaled"))
    yield {run.name: run for run in runs}
    for run in runs:
        run.record.close()


def test_the_numbers_that_functions_share_with_their_claims_are_the_same() -> None:
    region = {name: claim.region for name, claim in read_claims("flatness").items()}
    assert region["noise-flattens"].high == region["sam-flattens"].high == FLAT
    assert region["bias-degenerates"].low == region["logistic-degenerates"].low == GAP
    assert region["reaches-least-trace"].high == 1 + NEAR
    assert region["any-width-fails"].high == region["scenario-three-generalizes"].low == ALMOST


CLAIMS = [t.claim.id.partition(".")[2] for topic in Flatness.topics for t in topic.claims]


@pytest.mark.parametrize("id", [id for id in CLAIMS if id not in CONSTRUCTED and id != "explains-error"])
def test_what_is_true_holds(base: Runs, id: str) -> None:
    found = finding(base, id)
    assert (found.verdict, found.count.fails, found.count.open) == ("holds", 0, 0)


Change = dict[tuple[str, str], tuple[float, float]]

FLIPS: list[tuple[str, Change, dict[str, float], str]] = [
    ("scenario-one-generalizes", {("no-bias", "1SAM"): (1.3, 0.1)}, {}, "fails"),
    ("scenario-two-fails", {("bias", "1SAM"): (1.02, 0.01)}, {}, "fails"),
    ("scenario-two-fails", {("bias", "1SAM"): (1.02, 0.198)}, {}, "open"),
    ("scenario-three-generalizes", {("layernorm", "1SAM"): (1.01, 0.06)}, {}, "fails"),
    ("scenario-three-generalizes", {("layernorm", "1SAM"): (1.01, 0.049)}, {}, "open"),
    ("scenario-three-generalizes", {("layernorm", "1SAM"): (1.01, 0.0503)}, {}, "open"),
    ("scenario-three-generalizes", {("layernorm", "1SAM"): (1.01, 0.03)}, {"unfitted": 0.3}, "open"),
    ("no-bias-generalizes", {("no-bias", "GD"): (4.0, 0.02)}, {}, "fails"),
    ("batchnorm-generalizes", {("batchnorm", "1SAM"): (1.05, 0.02)}, {}, "fails"),
    ("batchnorm-columns", {("batchnorm", "1SAM"): (1.05, 0.001)}, {"columns": 4.0}, "fails"),
    ("batchnorm-columns", {("batchnorm", "1SAM"): (1.05, 0.001)}, {"columns": 4.96}, "mixed"),
    ("ball-no-bias-better", {("ball-bias", "1SAM"): (1.0, 0.03)}, {}, "fails"),
    ("ball-no-bias-better", {("ball-bias", "1SAM"): (1.0, 0.0502)}, {}, "open"),
    ("bias-fails", {("bias", "GD"): (3.0, 0.15)}, {}, "fails"),
    ("bias-flatter", {("bias", "GD"): (0.9, 0.0)}, {}, "fails"),
    ("bias-flatter", {("bias", "GD"): (1.03, 0.0)}, {}, "open"),
    ("softplus-fails", {("softplus", "1SAM"): (np.nan, 0.1)}, {}, "fails"),
    ("softplus-fails", {("softplus", "1SAM"): (np.nan, 0.4)}, {"unfitted": 0.3}, "open"),
    ("softplus-flatter", {("softplus", "SGD"): (np.nan, 0.01)}, {"unfitted": 0.3}, "open"),
    ("logistic-fails", {("logistic", "1SAM"): (1.0, 0.0)}, {}, "fails"),
    ("logistic-flatter", {("logistic", "1SAM"): (2.5, 0.4)}, {}, "fails"),
    ("three-layers-fails", {("three-layers", "1SAM"): (1.0, 0.2)}, {}, "fails"),
    ("bias-first-generalizes", {("bias", "1SAM"): (1.02, 0.3)}, {"peak": 0.2}, "fails"),
    ("bias-degenerates", {("bias", "1SAM"): (1.02, 0.1)}, {}, "fails"),
    ("bias-degenerates-when", {("bias", "1SAM"): (1.02, 0.1)}, {}, "open"),
    ("bias-degenerates-when", {("bias", "1SAM"): (1.02, 0.3)}, {"early": 0.0, "peak": 0.1}, "fails"),
    ("logistic-degenerates", {("logistic", "1SAM"): (1.0, 0.0)}, {}, "fails"),
    ("any-width-fails", {("bias-narrow", "1SAM"): (1.03, 0.01)}, {}, "fails"),
    ("any-width-fails", {("bias-narrow", "1SAM"): (1.5, 0.01)}, {}, "open"),
    ("reaches-least-trace", {("layernorm", "1SAM"): (1.2, 0.03)}, {}, "mixed"),
    ("reaches-least-trace", {("three-layers", "1SAM"): (1.2, 0.4)}, {}, "mixed"),
    ("noise-divides", {("bias", "noise"): (1.05, 0.01)}, {}, "mixed"),
    ("noise-flattens", {("bias", "noise"): (1.5, 0.25)}, {}, "mixed"),
    ("sam-divides", {("layernorm", "SAM"): (1.15, 0.3)}, {}, "mixed"),
]


@pytest.mark.parametrize(("id", "changes", "options", "verdict"), FLIPS)
def test_what_is_not_true_does_not_hold(
    base: Runs, tmp_path: Path, id: str, changes: Change, options: dict[str, float], verdict: str
) -> None:
    changed = {}
    for (network, method), truth in changes.items():
        name = f"{network}-{method}"
        changed[name] = trained(tmp_path / name, network, method, *truth, **options)
    assert finding({**base, **changed}, id).verdict == verdict
    for run in changed.values():
        run.record.close()


@pytest.mark.parametrize(
    ("id", "key", "truth", "options"),
    [
        ("reaches-least-trace", ("layernorm", "1SAM"), (1.2, 0.03), {"falling": 0.1}),
        ("noise-flattens", ("bias", "noise"), (1.5, 0.25), {"falling": 0.1}),
        ("noise-divides", ("bias", "noise"), (1.5, 0.01), {}),
        ("noise-divides", ("bias", "noise"), (1.05, 0.01), {"unfitted": 0.5}),
        ("noise-divides", ("layernorm", "1SAM"), (1.01, 0.05), {}),
    ],
)
def test_a_network_that_says_nothing_yet_is_open_with_what_would_decide_it(
    base: Runs,
    tmp_path: Path,
    id: str,
    key: tuple[str, str],
    truth: tuple[float, float],
    options: dict[str, float],
) -> None:
    run = trained(tmp_path / "-".join(key), *key, *truth, **options)
    found = finding({**base, run.name: run}, id)
    (case,) = [case for case in found.cases if case.verdict == "open"]
    assert "more" in case.needs
    assert np.isfinite(case.value)
    assert found.count.fails == 0
    run.record.close()


@pytest.mark.parametrize("id", ["samples-d-log-d", "samples-not-d-squared"])
def test_a_rate_of_d_squared_refutes_d_log_d(tmp_path: Path, id: str) -> None:
    runs = {f"d{dim}": sample_sizes(tmp_path / f"d{dim}", dim, power=2.0) for dim in (10, 20, 40)}
    assert finding(runs, id).verdict == "fails"
    assert finding({"d10": runs["d10"]}, id).verdict == "open"
    for run in runs.values():
        run.record.close()


@pytest.mark.parametrize(
    ("id", "options", "verdict"),
    [
        ("user-trace-falls", {"less": -1.0}, "fails"),
        ("user-trace-falls", {"error": 30.0}, "open"),
        ("user-eigenvalue-falls", {"less": -1.0}, "fails"),
        ("user-error-follows", {"gain": -0.02}, "fails"),
        ("user-error-follows", {"less": -1.0}, "open"),
        ("user-error-follows", {"error": 30.0}, "open"),
    ],
)
def test_a_network_that_sam_does_not_flatten_or_improve(
    tmp_path: Path, id: str, options: dict[str, float], verdict: str
) -> None:
    runs = [user_run(tmp_path / f"{n}-{s}", n, s, **options) for n in range(len(RADII) + 1) for s in SEEDS]
    assert finding({run.name: run for run in runs}, id).verdict == verdict
    for run in runs:
        run.record.close()


@pytest.mark.parametrize(("options", "verdict"), [({"drift": 0.1}, "open"), ({"factor": 1.0}, "fails")])
def test_rescaling_that_changes_the_function_or_keeps_the_sharpness(
    tmp_path: Path, options: dict[str, float], verdict: str
) -> None:
    run = rescaled(tmp_path / "r", **options)
    assert finding({"r": run}, "rescaling").verdict == verdict
    run.record.close()


def test_flatness_explains_only_where_the_flatter_errs_less(base: Runs, tmp_path: Path) -> None:
    assert finding(base, "explains-error").verdict == "fails"
    changed = {}
    for (network, method), (excess, _) in TRUTH.items():
        if network in SCENARIOS:
            name = f"{network}-{method}"
            changed[name] = trained(tmp_path / name, network, method, excess, 0.1 * np.log(excess))
    found = finding({**base, **changed}, "explains-error")
    assert (found.verdict, found.count.all) == ("holds", 5)
    for run in changed.values():
        run.record.close()


def test_without_runs_nothing_is_judged() -> None:
    assert {found.verdict for found in Flatness().findings({})} == {"open"}


def test_the_pictures_can_be_drawn_and_claims_name_those_that_there_are(base: Runs) -> None:
    figures = {figure.name: figure for figure in flatness_figures(base)}
    assert list(figures) == ["scenarios", "explained", "minimizers", "variants", "neurons", "samples", "user-problem"]
    assert {t.claim.figure for topic in Flatness.topics for t in topic.claims} <= {"", *figures}
    shown = ("neurons", "scenarios", "explained", "minimizers", "user-problem")
    drawn = {name: figures[name].svg() for name in shown}
    assert "with layer norm" in drawn["neurons"]
    assert "without bias: trace over the least" in drawn["minimizers"]
    assert "SAM, ρ 0.05" in drawn["user-problem"]
    assert "trace over the least" in drawn["scenarios"]
    assert "label-noise SGD" in drawn["explained"]
    assert flatness_figures({}) == []


def test_the_paper_trains_every_network_that_its_claims_name() -> None:
    assert {network for network, _ in PAPER.stages} == {*NETWORKS}
    assert all(PAPER.stages[key] for key in TRUTH)
