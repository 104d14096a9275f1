"""The verdicts of study `edge` on records made by hand, whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgescope.errors import EdgescopeError
from edgescope.measures import Reading
from edgescope.store import Record
from edgescope.studies.edge.claims import edge_findings
from edgescope.studies.edge.pictures import edge_figures
from edgescope.studies.edge.runs import edge_tasks

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


def record_of(folder: Path, ratio: Series, loss: Series = falls_with_rises, wrong: float = 0.0) -> Record:
    """A run's record: ``wrong`` is the relative error of the predicted loss changes."""
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
            smooth = THRESHOLD * (1.1 if change > 0 else 0.9)
            values = {"": smooth, "predicted": change * (1 + wrong), "actual": change}
            readings.append(Reading("directional_smoothness", values, {"actual": 1e-12}))
        record.append(step, readings)
    record.set_status("finished")
    return record


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Record]:
    return {
        "GD-0.10": record_of(tmp_path / "gd", rises_and_hovers),
        "flow": record_of(tmp_path / "flow", lambda step: 0.4 + step / 300),
        "Polyak": record_of(tmp_path / "polyak", rises_and_hovers),
    }


def verdict(runs: dict[str, Record], words: str) -> str:
    (found,) = [f for f in edge_findings(runs) if words in f.claim]
    assert all(np.isfinite(v) for v in found.measured.values())
    return found.verdict


CLAIMS = {
    "sharpens": "progressive sharpening",
    "flow": "Gradient flow",
    "settles": "Under gradient descent",
    "momentum": "Under Polyak",
    "loss": "rises in single steps",
    "change": "loss change of a step",
}


@pytest.mark.parametrize("claim", CLAIMS.values())
def test_every_claim_holds_where_it_is_true(runs: dict[str, Record], claim: str) -> None:
    assert verdict(runs, claim) == "holds"


@pytest.mark.parametrize(
    ("claim", "name", "ratio", "loss", "wrong"),
    [
        ("settles", "GD-0.10", lambda s: rises_and_hovers(s) * 1.12, falls_with_rises, 0.0),
        ("momentum", "Polyak", lambda s: np.where(s > 250, 0.7, rises_and_hovers(s)), falls_with_rises, 0.0),
        ("sharpens", "GD-0.10", lambda s: np.where(s == 200, 1.0, 0.9 + 0.05 * np.sin(s)), falls_with_rises, 0.0),
        ("flow", "flow", lambda s: 0.4 + 0 * s, falls_with_rises, 0.0),
        ("loss", "GD-0.10", rises_and_hovers, lambda s: np.exp(-s / 400), 0.0),
        ("loss", "GD-0.10", rises_and_hovers, lambda s: 1 + 0.1 * (-1.0) ** s, 0.0),
        ("change", "GD-0.10", rises_and_hovers, falls_with_rises, 0.05),
    ],
)
def test_every_claim_fails_on_a_counter_example(
    runs: dict[str, Record], tmp_path: Path, claim: str, name: str, ratio: Series, loss: Series, wrong: float
) -> None:
    runs[name] = record_of(tmp_path / "counter", ratio, loss, wrong)
    assert verdict(runs, CLAIMS[claim]) == "fails"


def test_a_run_that_never_arrives_cannot_tell(runs: dict[str, Record], tmp_path: Path) -> None:
    runs["GD-0.10"] = record_of(tmp_path / "early", lambda step: 0.4 + step / 2000)
    for claim in ("settles", "loss", "flow"):
        (found,) = [f for f in edge_findings(runs) if CLAIMS[claim] in f.claim]
        assert found.verdict == "inconclusive"


def test_pictures_are_drawn_from_the_same_records(runs: dict[str, Record]) -> None:
    names = [figure.name for figure in edge_figures(runs)]
    assert names == ["sharpness", "loss", "optimizers", "settled", "changes"]


@pytest.mark.parametrize("preset", ["quick", "full"])
def test_every_run_of_a_preset_is_a_valid_configuration(preset: str) -> None:
    tasks = edge_tasks(preset, seed=3)  # type: ignore[arg-type]
    assert len({task.name for task in tasks}) == len(tasks) >= 10
    assert {task.config.seed for task in tasks} == {3}


def test_a_study_without_records_is_one_clear_line(tmp_path: Path) -> None:
    from edgescope.studies import STUDIES, report_study

    with pytest.raises(EdgescopeError, match="nothing to report"):
        report_study(STUDIES.build("edge"), tmp_path)
