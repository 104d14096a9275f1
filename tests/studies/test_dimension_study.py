"""Study `dimension`: its row of the grid on a tiny run, and its verdicts on records whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgescope.measures import Reading
from edgescope.report import Finding
from edgescope.store import Record
from edgescope.studies.dimension.claims import dimension_findings
from edgescope.studies.dimension.grid import MEASURES
from edgescope.studies.dimension.pictures import dimension_figures
from edgescope.studies.dimension.runs import SETTINGS, dimension_tasks
from edgescope.studies.dimension.stack import StackTask
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
KINDS = {"with": (1, 0.1), "near": (1, 1.0), "weak": (1, 4.0), "against": (-1, 4.0), "away": (-1, 8.0)}
"""How a measure depends on the gap: its slope and the spread of its noise."""

OUTSIDE = {"SD exact": "with", "RDS sharpness": "against", "lifetime sum": "weak", "lifetime sum, losses": "weak"}


def grid(folder: Path, prefix: str, follows: Callable[[str], str]) -> dict[str, Record]:
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
                name = f"{prefix}-b{batch}-lr{lr:g}-seed{seed}"
                config = {"lr": lr, "batch": batch, "seed": seed, "optimizer": "sgd"}
                runs[name] = Record.create(folder / name, config=config)
                runs[name].append(100, [Reading(measure, parts) for measure, parts in values.items()])
                runs[name].set_status("finished")
    return runs


def as_the_paper(label: str) -> str:
    return OUTSIDE.get(label, "near" if label.startswith("SD") else "away")


def the_other_way(label: str) -> str:
    return "against" if label.startswith("SD") else "near"


def single(folder: Path, measure: str, values: dict[str, float]) -> Record:
    record = Record.create(folder, config={})
    record.append(1, [Reading(measure, values)])
    record.set_status("finished")
    return record


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


def attractor(folder: Path, boxes: float, bound: float) -> Record:
    record = Record.create(folder, config={})
    record.append(
        250, [Reading("box_dimension", {"": boxes}), Reading("sharpness_dimension", {"": bound, "mean": 1.0})]
    )
    record.set_status("finished")
    return record


def verdict(findings: list[Finding], words: str) -> str:
    (found,) = [f for f in findings if words in f.claim]
    return found.verdict


CLAIMS = {
    "singular values": "log singular values",
    "attractor": "toy attractor",
    "homology": "homology dimensions fail",
    "lifetime": "lifetime sums follow",
    "rds": "RDS sharpness of order 1 runs against",
    "better": "better than homology",
    "best": "exact SD is best",
    "control": "beyond learning rate",
    "fixed": "one fixed learning rate",
    "simpler": "better than the norms",
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_claim_holds_where_it_is_true(paper: list[Finding], claim: str) -> None:
    assert verdict(paper, CLAIMS[claim]) == "holds"


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim != "lifetime"])
def test_every_claim_fails_on_a_counter_example(contrary: list[Finding], claim: str) -> None:
    assert verdict(contrary, CLAIMS[claim]) == "fails"


def test_averaging_and_bulk_are_judged_from_the_same_records(paper: list[Finding]) -> None:
    assert verdict(paper, "Averaging sorted") == "holds"
    (found,) = [f for f in paper if "Averaging sorted" in f.claim]
    assert found.measured["pooled - sorted, median"] == pytest.approx(0.5)
    (bulk,) = [f for f in paper if "nearly full" in f.claim]
    assert 0.9 < bulk.measured["SD / size, smallest"] < 1


def test_what_was_not_run_is_inconclusive(paper: list[Finding], tmp_path: Path) -> None:
    for words in ("Larger network", "Language models"):
        assert {f.verdict for f in paper if words in f.claim} == {"inconclusive"}
    nothing = dimension_findings({"attractor": attractor(tmp_path / "a", 1.4, 1.9)})
    assert {f.verdict for f in nothing if "attractor" not in f.claim} == {"inconclusive"}


@pytest.mark.parametrize(("follows", "expected"), [(as_the_paper, "holds"), (the_other_way, "fails")])
def test_the_larger_network_is_judged_by_its_own_runs(tmp_path: Path, follows: Callable, expected: str) -> None:
    assert verdict(dimension_findings(grid(tmp_path, "wide", follows)), "SD-SLQ has the highest") == expected


def test_pictures_are_drawn_from_the_same_records(tmp_path: Path) -> None:
    names = [figure.name for figure in dimension_figures(grid(tmp_path, "mlp", as_the_paper))]
    assert names == ["correlations-mlp", "scatter-mlp-accuracy-gap", "scatter-mlp-loss-gap"]


@pytest.mark.parametrize("preset", SETTINGS)
def test_every_task_of_a_preset_is_a_valid_configuration(preset: str) -> None:
    from edgescope.studies import STUDIES

    tasks = dimension_tasks(preset, seed=3)  # type: ignore[arg-type]
    assert len({task.name for task in tasks}) == len(tasks)
    stacks = [task for task in tasks if isinstance(task, StackTask)]
    for stack in stacks:
        assert {config.batch for config in stack.configurations(1000).values()} == {stack.batch}
        assert min(stack.seeds) == 3
    records = STUDIES.build("dimension").records(tasks, Path("runs"))
    assert len(records) == sum(len(s.lrs) * len(s.seeds) for s in stacks) + len(tasks) - len(stacks)
    assert len(set(records.values())) == len(records)


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
    texts = {DATA.build(task.config.data) for task in tasks if task.name.startswith("gpt")}  # type: ignore[attr-defined]
    assert texts == {Text(path=str(book), length=64)}
