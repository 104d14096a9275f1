"""The verdicts of study `edge` on records made by hand, whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from one_claim import finding_of

from edgescope.claims import Finding, Region
from edgescope.errors import EdgescopeError
from edgescope.experiments.edge.runs import SETTINGS, edge_tasks
from edgescope.experiments.preset import Preset
from edgescope.experiments.study_run import StudyRun
from edgescope.measures import Reading
from edgescope.store import Record
from edgescope.studies.edge import Edge
from edgescope.studies.edge.figures import SETTLED_WITHIN, edge_figures
from edgescope.studies.stated_claim import read_claims

LR = 0.1
THRESHOLD = 2 / LR
STEPS = 600
EVERY = 10
Series = Callable[[np.ndarray], np.ndarray]


def rises_and_hovers(step: np.ndarray) -> np.ndarray:
    """Sharpness over threshold: falls a little, rises to 1 by step 200, then swings around 1.03."""
    early = 0.45 - 0.05 * np.minimum(step, 20) / 20 + 0.6 * np.clip(step - 20, 0, None) / 180
    return np.where(step <= 200, early, 1.03 + 0.05 * np.sin(step / 7))


def falls_with_rises(step: np.ndarray) -> np.ndarray:
    """A loss that falls throughout, with a swing of period two from step 200 on."""
    return np.exp(-step / 400) * (1 + 0.1 * np.where(step >= 200, (-1.0) ** step, 0.0))


def record_of(
    folder: Path, ratio: Series, loss: Series = falls_with_rises, wrong: float = 0.0, opposite: bool = False
) -> Record:
    """A run's record: ``wrong`` is the relative error of the predicted loss changes; ``opposite`` turns D around its
    threshold."""
    record = Record.create(folder, config={"lr": LR})
    steps = np.arange(STEPS + 1)
    losses = loss(steps)
    for step in steps.tolist():
        readings = [Reading("training_loss", {"": float(losses[step])})]
        if step % EVERY == 0:
            value = float(ratio(np.array([step]))[0])
            readings += [
                Reading("ratio", {"": value}),
                Reading("sharpness", {"1": value * THRESHOLD, "2": 0.9 * value * THRESHOLD}),
                Reading("time", {"": LR * step}),
            ]
        if step % EVERY == 0 and step > 0:
            change = float(losses[step] - losses[step - 1])
            smooth = THRESHOLD * (1.1 if (change > 0) != opposite else 0.9)
            values = {"": smooth, "predicted": change * (1 + wrong), "actual": change}
            readings.append(Reading("directional_smoothness", values, {"actual": 1e-12}))
        record.append(step, readings)
    record.set_status("finished")
    return record


Runs = dict[str, StudyRun]


def run_of(name: str, record: Record, method: str, network: str = "MLP") -> StudyRun:
    return StudyRun(name, record, {"method": method, "network": network})


METHODS = {"one": "gd", "two": "flow", "three": "polyak", "four": "adam"}
"""Names that say nothing, since runs are selected by their tags."""


@pytest.fixture(scope="module")
def true_runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder, ratios = tmp_path_factory.mktemp("true"), {"flow": lambda step: 0.4 + step / 300}
    return {
        name: run_of(name, record_of(folder / name, ratios.get(method, rises_and_hovers)), method)
        for name, method in METHODS.items()
    }


@pytest.fixture
def runs(true_runs: Runs) -> Runs:
    """A copy, in which a test may replace a run."""
    return dict(true_runs)


@pytest.fixture(scope="module")
def figure_names(true_runs: Runs) -> list[str]:
    return [figure.name for figure in edge_figures(true_runs)]


def finding(runs: Runs, id: str) -> Finding:
    return finding_of(Edge, runs, id)


HOLDING = [
    "sharpens",
    "sharpens-steadily",
    "flow-sharpens-further",
    "gd-settles",
    "polyak-settles",
    "adam-settles",
    "loss-rises-in-steps",
    "loss-falls-over-time",
    "loss-change-predicted",
    "loss-change-sign",
]


@pytest.mark.parametrize("id", HOLDING)
def test_every_claim_holds_where_it_is_true(runs: Runs, figure_names: list[str], id: str) -> None:
    found = finding(runs, id)
    assert (found.verdict, found.count.holds) == ("holds", 1)
    assert found.figure in figure_names


@pytest.mark.parametrize(
    ("id", "name", "ratio", "loss", "wrong"),
    [
        ("gd-settles", "one", lambda s: rises_and_hovers(s) * 1.25, falls_with_rises, 0.0),
        ("polyak-settles", "three", lambda s: np.where(s > 200, 0.7, rises_and_hovers(s)), falls_with_rises, 0.0),
        ("adam-settles", "four", lambda s: rises_and_hovers(s) * 1.25, falls_with_rises, 0.0),
        ("sharpens", "one", lambda s: np.where(s == 200, 1.0, 0.9 + 0.05 * np.sin(s)), falls_with_rises, 0.0),
        ("sharpens-steadily", "one", lambda s: np.where(s < 200, 0.5 + 0.3 * np.cos(s), 1), falls_with_rises, 0.0),
        ("flow-sharpens-further", "two", lambda s: 0.4 + 0 * s, falls_with_rises, 0.0),
        ("loss-rises-in-steps", "one", rises_and_hovers, lambda s: np.exp(-s / 400), 0.0),
        ("loss-falls-over-time", "one", rises_and_hovers, lambda s: 1 + 0.1 * (-1.0) ** s, 0.0),
        ("loss-change-predicted", "one", rises_and_hovers, falls_with_rises, 0.05),
    ],
)
def test_every_claim_fails_on_a_counter_example(
    runs: Runs, tmp_path: Path, id: str, name: str, ratio: Series, loss: Series, wrong: float
) -> None:
    runs[name] = run_of(name, record_of(tmp_path / "counter", ratio, loss, wrong), METHODS[name])
    assert finding(runs, id).verdict == "fails"


def test_the_sign_of_a_loss_change_fails_where_the_smoothness_says_the_opposite(runs: Runs, tmp_path: Path) -> None:
    runs["one"] = run_of("one", record_of(tmp_path / "counter", rises_and_hovers, opposite=True), "gd")
    assert finding(runs, "loss-change-sign").verdict == "fails"


def test_one_run_among_several_that_fails_makes_the_verdict_mixed_with_its_count(runs: Runs, tmp_path: Path) -> None:
    for k in range(4):
        runs[f"more {k}"] = run_of(f"more {k}", record_of(tmp_path / f"more {k}", rises_and_hovers), "gd")
    high = record_of(tmp_path / "high", lambda s: rises_and_hovers(s) * 1.25)
    runs["cnn"] = run_of("cnn", high, "gd", network="CNN")
    found = finding(runs, "gd-settles")
    assert (found.verdict, found.count.holds, found.count.fails) == ("mixed", 5, 1)
    assert "fails under network = CNN" in found.why


def test_a_run_that_never_arrives_is_open_and_says_how_many_steps_are_missing(runs: Runs, tmp_path: Path) -> None:
    runs["one"] = run_of("one", record_of(tmp_path / "early", lambda step: 0.4 + step / 2000), "gd")
    for id in ("gd-settles", "loss-rises-in-steps", "loss-falls-over-time", "flow-sharpens-further"):
        assert finding(runs, id).verdict == "open"
    # At step 600 the ratio is 0.7, and it rises by 1/2000 a step.
    assert finding(runs, "gd-settles").needs == "arrival: about 600 more steps"


def test_without_runs_every_claim_is_open() -> None:
    assert {found.verdict for found in Edge().findings({})} == {"open"}


def test_pictures_are_drawn_from_the_same_records(figure_names: list[str]) -> None:
    assert figure_names == ["sharpness", "loss", "optimizers", "settled", "changes"]


@pytest.mark.parametrize("method", ["gd", "polyak", "nesterov", "rmsprop", "adam"])
def test_the_figure_of_where_runs_settle_shades_the_region_of_the_claims(method: str) -> None:
    assert read_claims("edge")[f"{method}-settles"].region == Region.around(1.0, SETTLED_WITHIN)


def test_where_no_run_arrives_there_is_no_picture_of_where_runs_settle(runs: Runs, tmp_path: Path) -> None:
    for name, method in METHODS.items():
        runs[name] = run_of(name, record_of(tmp_path / f"early {name}", lambda step: 0.4 + step / 2000), method)
    assert [figure.name for figure in edge_figures(runs)] == ["sharpness", "loss", "optimizers", "changes"]


@pytest.mark.parametrize("preset", SETTINGS)
def test_every_run_of_a_preset_is_a_valid_configuration(preset: Preset) -> None:
    tasks = edge_tasks(preset, seed=3)
    assert len({task.name for task in tasks}) == len(tasks) >= 8
    assert {task.tags["method"] for task in tasks} == {"gd", "flow", "polyak", "nesterov", "rmsprop", "adam"}
    assert {task.config.seed for task in tasks} == {3}


def test_a_study_without_records_is_one_clear_line(tmp_path: Path) -> None:
    from edgescope.studies import STUDIES, report_study

    with pytest.raises(EdgescopeError, match="nothing to report"):
        report_study(STUDIES.build("edge"), tmp_path)
