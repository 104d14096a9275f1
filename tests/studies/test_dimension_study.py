"""Study `dimension`: its row of the grid on a tiny run, and its verdicts on records whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgescope.claims import Finding
from edgescope.experiments.dimension.grid import MEASURES
from edgescope.experiments.dimension.runs import SETTINGS, dimension_tasks
from edgescope.experiments.dimension.stack_task import StackTask
from edgescope.experiments.preset import Preset
from edgescope.experiments.study_run import StudyRun
from edgescope.measures import Reading
from edgescope.store import Record
from edgescope.studies.dimension import Dimension
from edgescope.studies.dimension.figures import dimension_figures
from edgescope.training import train

TINY = StackTask(
    name="mlp-b25",
    cost=1.0,
    data="digits:train=60,test=40",
    model="mlp:widths=4,activation=relu",
    batch=25,
    lrs=(0.05, 0.2),
    seeds=(3,),
    epochs=12,
    iterates=21,
    measures=("loss", "accuracy", "norms", "sharpness_dimension:methods=exact+slq,batch=25,batches=2,probes=1,steps=8"),
)


class Stopped(Exception):
    pass


def quiet(share: float, words: str) -> None:
    pass


def cells(folder: Path) -> dict[str, str]:
    found = {}
    for name in TINY.configurations():
        with Record.open(folder / name) as record:
            assert record.status == "finished"
            found[name] = record.fingerprint()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    TINY.run(folder, quiet)
    return folder


def test_a_cell_ends_where_the_same_run_alone_ends(whole: Path, tmp_path: Path) -> None:
    name, config = list(TINY.configurations(60).items())[1]
    assert config.steps == 36
    train(replace(config, measures=("loss", "norms"), every=36), tmp_path / "alone")
    with Record.open(tmp_path / "alone") as alone, Record.open(whole / name) as cell:
        for measure, part in (("loss", "train"), ("loss", "test"), ("norms", "l2"), ("norms", "distance")):
            assert cell.series(measure, part)[1][-1] == pytest.approx(alone.series(measure, part)[1][-1], rel=1e-5)
        assert cell.last_step == 36
        found = cell.wide("persistent_homology", "sharpness_dimension").row(-1, named=True)
        assert 0 < found["sharpness_dimension/exact"] <= found["sharpness_dimension/size"] == 310
        assert found["persistent_homology/lifetime_sum/euclidean"] > 0
        assert found["persistent_homology/lifetime_sum/loss"] > 0


@pytest.mark.parametrize("calls", [4, 20, 37], ids=["early", "in-the-trajectory", "between-measurements"])
def test_a_task_that_was_stopped_continues_to_the_same_records(whole: Path, tmp_path: Path, calls: int) -> None:
    left = calls

    def stop(share: float, words: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Stopped

    with pytest.raises(Stopped):
        TINY.run(tmp_path, stop)
    TINY.run(tmp_path, quiet)
    assert cells(tmp_path) == cells(whole)
    TINY.run(tmp_path, stop)  # one that has ended is left alone


LRS, BATCHES, SEEDS = (0.01, 0.02, 0.05, 0.1), (16, 32, 64), (0, 1)
KINDS = {"with": (1, 0.1), "near": (1, 1.0), "weak": (1, 4.0), "against": (-1, 2.0), "away": (-1, 2.0)}
"""How a measure depends on the gap: its slope and the spread of its noise."""

OUTSIDE = {"SD exact": "with", "RDS sharpness": "against", "lifetime sum": "weak", "lifetime sum, losses": "weak"}


Runs = dict[str, StudyRun]


def dimension_findings(runs: Runs) -> list[Finding]:
    return Dimension().findings(runs)


def grid(folder: Path, role: str, follows: Callable[[str], str]) -> Runs:
    """A whole grid whose measures follow the gap as ``follows`` says of each."""
    rng = np.random.default_rng(0)
    runs = {}
    for batch in BATCHES:
        for lr in LRS:
            for seed in SEEDS:
                gap = float(np.log(lr) - np.log(batch) + 3 * rng.standard_normal())
                values: dict[str, dict[str, float]] = {"sharpness_dimension": {"size": 1000.0}}
                for label, (measure, part) in MEASURES.items():
                    slope, spread = KINDS[follows(label)]
                    value = slope * gap + spread * float(rng.standard_normal())
                    values.setdefault(measure, {})[part] = 950 + value if measure == "sharpness_dimension" else value
                exact = values["sharpness_dimension"]["exact"]
                values["sharpness_dimension"] |= {"exact/pooled": exact + 0.5, "exact/each": exact - 0.4}
                values["sharpness_dimension"]["exact/zone 0.0001"] = exact + 0.01
                values |= {"accuracy": {"train": 0.9, "test": 0.9 - 0.01 * (gap + 15)}}
                values |= {"loss": {"train": 0.1, "test": 0.2 + 0.1 * (gap + 15)}}
                name = f"network {len(runs)}"
                config = {"lr": lr, "batch": batch, "seed": seed, "optimizer": "sgd"}
                record = Record.create(folder / name, config=config)
                record.append(100, [Reading(measure, parts) for measure, parts in values.items()])
                record.set_status("finished")
                runs[name] = StudyRun(name, record, {"role": role})
    return runs


def as_the_paper(label: str) -> str:
    return OUTSIDE.get(label, "near" if label.startswith("SD") else "away")


def the_other_way(label: str) -> str:
    return "against" if label.startswith("SD") else "near"


def single(folder: Path, measure: str, values: dict[str, float]) -> StudyRun:
    record = Record.create(folder, config={})
    record.append(1, [Reading(measure, values)])
    record.set_status("finished")
    return StudyRun("one", record, {"role": "jacobian"})


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    folder = tmp_path_factory.mktemp("paper")
    runs = grid(folder, "mlp", as_the_paper) | {
        "jacobian": single(folder / "j", "log_singular_values", {"0.1": 3e-13}),
        "attractor": attractor(folder / "a", 1.4, 1.9),
    }
    return dimension_findings(runs)


@pytest.fixture(scope="module")
def contrary(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    folder = tmp_path_factory.mktemp("contrary")
    runs = grid(folder, "mlp", the_other_way) | {
        "jacobian": single(folder / "j", "log_singular_values", {"0.1": 3e-13, "1": 2e-9}),
        "attractor": attractor(folder / "a", 1.9, 1.4),
    }
    return dimension_findings(runs)


def attractor(folder: Path, boxes: float, bound: float) -> StudyRun:
    record = Record.create(folder, config={})
    record.append(
        250, [Reading("box_dimension", {"": boxes}), Reading("sharpness_dimension", {"": bound, "mean": 1.0})]
    )
    record.set_status("finished")
    return StudyRun("two", record, {"role": "attractor"})


def finding(findings: list[Finding], id: str) -> Finding:
    (found,) = [f for f in findings if f.id == f"dimension.{id}"]
    return found


HOLDING = [
    "singular-values",
    "attractor",
    "averaging",
    "nearly-full",
    "small-homology-fails",
    "small-rds-against",
    "small-better",
    "beyond-settings",
    "fixed-rate",
    "better-than-norms",
]
FAILING = [claim for claim in HOLDING if claim not in ("averaging", "nearly-full")]


@pytest.mark.parametrize("claim", HOLDING)
def test_every_claim_holds_where_it_is_true(paper: list[Finding], claim: str) -> None:
    assert finding(paper, claim).verdict == "holds"


@pytest.mark.parametrize("claim", FAILING)
def test_a_claim_does_not_hold_on_a_counter_example(contrary: list[Finding], claim: str) -> None:
    found = finding(contrary, claim)
    assert found.verdict in ("fails", "mixed")
    assert found.count.fails > 0


def test_the_best_of_all_needs_a_lead_over_every_rival(paper: list[Finding]) -> None:
    found = finding(paper, "small-exact-best")
    leads = {case.case: case for case in found.cases}
    assert leads["SD exact ahead of RDS sharpness, loss gap"].verdict == "holds"
    assert found.verdict == "holds"
    assert len(found.cases) == 8 * 2


def test_the_interval_of_a_weak_correlation_decides_nothing(paper: list[Finding]) -> None:
    found = finding(paper, "small-lifetime-sums")
    assert found.count.fails == 0
    assert all((case.verdict == "holds") == (case.low >= 0) for case in found.cases)


def test_averaging_and_bulk_are_judged_from_the_same_records(paper: list[Finding]) -> None:
    assert finding(paper, "averaging").measured["pooled densities less sorted logarithms"] == pytest.approx(0.5)
    assert finding(paper, "averaging").measured["mean of dimensions less sorted logarithms"] == pytest.approx(0.4)
    full = finding(paper, "nearly-full")
    assert full.count.all == len(LRS) * len(BATCHES) * len(SEEDS)
    assert all(0.9 < value < 1 for value in full.measured.values())


def test_an_attractor_that_failed_is_open(tmp_path: Path) -> None:
    with Record.create(tmp_path / "a", config={}) as record:
        record.set_status("failed")
        runs = {"attractor": StudyRun("attractor", record, {"role": "attractor"})}
        found = finding(dimension_findings(runs), "attractor")
    assert (found.verdict, [case.why for case in found.cases]) == ("open", ["the run has not ended"])


def test_what_was_not_run_is_open(paper: list[Finding], tmp_path: Path) -> None:
    ids = ("larger-slq-best", "larger-granulated-homology", "gpt-sharpness-against", "gpt-every-optimizer")
    assert {finding(paper, id).verdict for id in ids} == {"open"}
    nothing = dimension_findings({"attractor": attractor(tmp_path / "a", 1.4, 1.9)})
    assert {f.verdict for f in nothing if f.id != "dimension.attractor"} == {"open"}


@pytest.mark.parametrize(("follows", "expected"), [(as_the_paper, {"holds"}), (the_other_way, {"fails", "mixed"})])
def test_the_larger_network_is_judged_by_its_own_runs(tmp_path: Path, follows: Callable, expected: set[str]) -> None:
    assert finding(dimension_findings(grid(tmp_path, "wide", follows)), "larger-slq-best").verdict in expected


def test_pictures_are_drawn_from_the_same_records(tmp_path: Path) -> None:
    names = [figure.name for figure in dimension_figures(grid(tmp_path, "mlp", as_the_paper))]
    assert names == ["correlations-mlp", "scatter-mlp-accuracy-gap", "scatter-mlp-loss-gap"]


@pytest.mark.parametrize("preset", SETTINGS)
def test_every_task_of_a_preset_is_a_valid_configuration(preset: Preset) -> None:
    from edgescope.studies import STUDIES

    tasks = dimension_tasks(preset, seed=3)
    assert len({task.name for task in tasks}) == len(tasks)
    stacks = [task for task in tasks if isinstance(task, StackTask)]
    for stack in stacks:
        assert {config.batch for config in stack.configurations(1000).values()} == {stack.batch}
        assert min(stack.seeds) == 3
    entries = STUDIES.build("dimension").entries(tasks)
    assert len(entries) == sum(len(s.lrs) * len(s.seeds) for s in stacks) + len(tasks) - len(stacks)
    assert len({entry.folder for entry in entries}) == len({entry.name for entry in entries}) == len(entries)


def test_other_images_and_texts_take_the_place_of_ours(tmp_path: Path) -> None:
    from edgescope.data import DATA
    from edgescope.data.mnist import MNIST
    from edgescope.data.text import Text
    from edgescope.studies import STUDIES

    book = tmp_path / "book.txt"
    study = STUDIES.build(f"dimension:images=mnist:{tmp_path},text=text:{book}")
    assert STUDIES.build(study.spec) == study != STUDIES.build("dimension")
    assert STUDIES.build("dimension").spec == "dimension"
    tasks = study.tasks("full", 0)
    images = {DATA.build(task.data) for task in tasks if isinstance(task, StackTask)}
    assert images == {MNIST(str(tmp_path), train=2500, test=1000, pool=2)}
    texts = {DATA.build(task.config.data) for task in tasks if task.tags["role"] == "gpt"}  # type: ignore[attr-defined]
    assert texts == {Text(path=str(book), length=64)}
