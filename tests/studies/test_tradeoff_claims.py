"""Study `tradeoff`: its verdicts on records whose truth is known, and what it reads from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from edgescope.measures import Reading
from edgescope.report import Finding
from edgescope.store import Record
from edgescope.studies.tradeoff.claims import network_findings, tradeoff_findings
from edgescope.studies.tradeoff.curves import COLUMNS, LEAST, SCHEMA, Curve, curves_of
from edgescope.studies.tradeoff.kink import kink, one_step
from edgescope.studies.tradeoff.pictures import tradeoff_figures

RATIOS = (0.1, 0.4, 0.8, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 8.0)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class World:
    """How descent ends at a rate of ``ratio`` critical ones, as shares of what the flow ends with."""

    sharpness: Callable[[float], float] = lambda r: min(1, 1 / r)
    norm: Callable[[float], float] = lambda r: 1 + 0.05 * max(0, r - 1)
    settled: Callable[[float], float] = lambda r: 1 + 0.04 * max(0, r - 1)
    adaptive: Callable[[float], float] = lambda r: min(1, r**-0.3)
    test: Callable[[float], float] = lambda r: 1 + 0.3 * np.log(r / 2) ** 2
    sharpens: float = 3.0
    least: float = -0.4


PAPER = World()
CONTRARY = World(
    sharpness=lambda r: 1 + 0.1 * r,
    norm=lambda r: 1.1 + 0.3 * np.sin(9 * r) + 0.05 * r,
    settled=lambda r: 1.0,
    adaptive=lambda r: 1 + r,
    test=lambda r: 1 / (1 + r),
    least=-1.4,
)


def ends(world: World, ratio: float, wobble: float) -> dict[str, float]:
    norm, settled, adaptive = world.norm(ratio), world.settled(ratio), world.adaptive(ratio)
    moved = {
        f"{kind}_{name}": value * settled
        for kind in ("averaged", "decayed")
        for name, value in (("l1", 500), ("l2", 7))
    }
    plain = {"train_loss": 0.0499, "test_loss": 0.3 * world.test(ratio) + wobble, "l1": 500 * norm, "l2": 7 * norm}
    return (
        plain | moved | {"sharpness": 30 * world.sharpness(ratio), "adaptive": adaptive, "adaptive_worst": 2 * adaptive}
    )


def curve(group: str, seed: int, world: World, noise: float = 0.001) -> Curve:
    """Gradient flow and descent of one network; the last rate diverges."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, float | str]] = [
        {"lr": ratio * 2 / 30, "ratio": ratio, "status": "reached"} | ends(world, ratio, noise * rng.standard_normal())
        for ratio in RATIOS[:-1]
    ]
    rows.append({"lr": RATIOS[-1] * 2 / 30, "ratio": RATIOS[-1], "status": "diverged"})
    return Curve(
        name=f"{group}-seed{seed}",
        group=group,
        threshold=0.05,
        least=world.least * 30 / world.sharpens,
        start=30 / world.sharpens,
        highest=30.0,
        flow_reached=True,
        flow=ends(replace(world, sharpness=PAPER.sharpness, norm=PAPER.norm), 1.0, 0.0),
        table=pl.DataFrame(rows, schema=SCHEMA),
    )


def study(worlds: dict[str, World], seeds: tuple[int, ...] = SEEDS, noise: float = 0.001) -> list[Finding]:
    return network_findings([curve(group, seed, world, noise) for group, world in worlds.items() for seed in seeds])


@pytest.fixture(scope="module")
def paper() -> list[Finding]:
    return study({"MLP-MSE": replace(PAPER, test=lambda r: 1 / (1 + r)), "MLP-CE": PAPER, "digits-MSE": PAPER})


@pytest.fixture(scope="module")
def contrary() -> list[Finding]:
    return study({"MLP-MSE": replace(CONTRARY, test=PAPER.test), "MLP-CE": CONTRARY, "digits-MSE": CONTRARY})


def one(findings: list[Finding], words: str) -> Finding:
    (found,) = [finding for finding in findings if words in finding.claim]
    return found


CLAIMS = {
    "aligned": "Below the critical rate descent ends",
    "edge": "final sharpness is 2/η",
    "norm": "l1 norm of the parameters grows",
    "kink": "bend at the critical rate",
    "digits": "Handwritten digits",
    "cross-entropy": "Fashion-MNIST with cross-entropy",
    "squared": "Fashion-MNIST with the half-squared loss",
    "oscillation": "no oscillation",
    "scale": "does not depend on the scale",
    "sign": "eigenvalue of largest size",
}


@pytest.mark.parametrize("claim", [*CLAIMS, "sharpens", "place"])
def test_every_claim_holds_where_it_is_true(paper: list[Finding], claim: str) -> None:
    more = {"sharpens": "Gradient flow sharpens", "place": "end of least norm"}
    assert one(paper, (CLAIMS | more)[claim]).verdict == "holds"


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim != "oscillation"])
def test_every_claim_fails_on_a_counter_example(contrary: list[Finding], claim: str) -> None:
    assert one(contrary, CLAIMS[claim]).verdict == "fails"


def test_growth_that_is_oscillation_is_told() -> None:
    slight = replace(PAPER, settled=lambda r: 1 + 0.01 * max(0, r - 1))
    assert one(study({"MLP-MSE": slight}), "no oscillation").verdict == "fails"
    shrinks = replace(PAPER, norm=lambda r: 2 - 0.05 * r)  # nothing grows that could be oscillation
    assert one(study({"MLP-MSE": shrinks}), "no oscillation").verdict == "inconclusive"


def test_a_network_that_does_not_sharpen_is_left_out_of_the_claims_about_the_edge() -> None:
    found = study({"MLP-MSE": PAPER, "digits-MSE": replace(CONTRARY, sharpens=1.05)}, (0,))
    assert one(found, "Gradient flow sharpens").verdict == "fails"
    for claim in ("edge", "norm", "kink", "oscillation", "scale"):
        assert one(found, CLAIMS[claim]).verdict == "holds"
        assert not any("digits" in figure for figure in one(found, CLAIMS[claim]).measured)
    assert any("digits" in figure for figure in one(found, CLAIMS["aligned"]).measured)


def test_the_least_norm_may_lie_at_the_lowest_test_loss() -> None:
    falls = replace(PAPER, norm=lambda r: 1 + 0.05 * np.log(r / 2) ** 2)
    assert one(study({"MLP-CE": falls}), "end of least norm").verdict == "fails"


def test_a_valley_no_deeper_than_seeds_differ_is_none() -> None:
    flat = replace(PAPER, test=lambda r: 1 + 0.001 * np.log(r / 2) ** 2)
    assert one(study({"MLP-CE": flat}, noise=0.05), CLAIMS["cross-entropy"]).verdict == "fails"
    assert one(study({"MLP-CE": PAPER}, (0,)), CLAIMS["cross-entropy"]).verdict == "inconclusive"


def test_where_the_edge_is_left_is_told() -> None:
    leaves = replace(PAPER, sharpness=lambda r: min(1, 1 / r) * (1.2 if r > 2.5 else 1))
    found = one(study({"MLP-MSE": leaves}, (0,)), CLAIMS["edge"])
    assert found.verdict == "fails"
    assert found.measured["MLP-MSE-seed0: within up to η/η_c"] == 2.0
    assert found.measured["MLP-MSE-seed0: within, of rates"] == pytest.approx(4 / 6)


def records(folder: Path, truth: Curve) -> dict[str, Record]:
    """The records that such a curve is read from, with a rate that does not arrive."""
    flow = {"stop_loss": 0.05, "lr": 1.0}
    runs = {"flow": written(folder / "flow", flow, {0: {"sharpness": truth.start}, 9: truth.flow}, "stopped")}
    runs["flow"].set_info(LEAST, truth.least)
    for row in truth.table.tail(3).iter_rows(named=True):
        config = {"stop_loss": 0.05, "lr": row["lr"]}
        how = {"reached": "stopped", "diverged": "diverged"}[row["status"]]
        runs[f"x{row['ratio']:g}"] = written(folder / f"x{row['ratio']:g}", config, {7: row}, how)
    late = {"train_loss": 0.07, "test_loss": 0.4, "sharpness": 5.0}
    runs["x5"] = written(folder / "x5", {"stop_loss": 0.05, "lr": 5 * 2 / 30}, {400: late}, "")
    return {f"{truth.name}/{name}": record for name, record in runs.items()}


def written(folder: Path, config: dict[str, float], steps: dict[int, dict[str, float]], how: str) -> Record:
    record = Record.create(folder, config=config)
    for step, row in steps.items():
        readings: dict[str, dict[str, float]] = {}
        for column, value in row.items():
            if column in COLUMNS and value is not None:
                measure, part = COLUMNS[column]
                readings.setdefault(measure, {})[part] = value
        events = [(how, "so it ended")] if how and step else []
        record.append(step, [Reading(measure, parts) for measure, parts in readings.items()], events)
    record.set_info("steps", max(steps))
    record.set_status("diverged" if how == "diverged" else "finished")
    return record


def test_a_curve_is_read_from_its_records_and_drawn(tmp_path: Path) -> None:
    truth = curve("MLP-MSE", 0, PAPER)
    runs = records(tmp_path, truth)
    (found,) = curves_of(runs)
    assert (found.name, found.group, found.threshold) == (truth.name, truth.group, 0.05)
    assert (found.start, found.least, found.highest) == (truth.start, truth.least, 30.0)
    assert found.flow == truth.flow
    assert found.table["status"].to_list() == ["reached", "reached", "unfinished", "diverged"]
    assert found.table["ratio"].to_list() == pytest.approx([3.0, 4.0, 5.0, 8.0])
    assert found.table[:2].drop("ratio", "lr").equals(truth.table[8:10].drop("ratio", "lr"))
    assert found.reached.height == 2
    assert found.table["test_loss"][2] == 0.4
    assert [figure.name for figure in tradeoff_figures(runs)] == ["tradeoff-mlp-mse", "networks", "objections"]
    assert {f.verdict for f in tradeoff_findings(runs) if "iagonal" in f.claim or "Rescaling" in f.claim} == {
        "inconclusive"
    }


@pytest.mark.parametrize("place", [0.3, 1.0, 2.7])
@pytest.mark.parametrize("power", [-1.0, 0.4])
def test_the_bend_of_a_broken_line_is_found(place: float, power: float) -> None:
    x = np.geomspace(0.1, 10, 19)
    y = 5 * np.maximum(x / place, 1) ** power
    assert kink(x, y) == pytest.approx(place, rel=0.01)
    noisy = y * np.exp(0.01 * np.random.default_rng(0).standard_normal(19))
    assert kink(x, noisy) == pytest.approx(place, rel=0.1)


def test_without_a_bend_there_is_none() -> None:
    x = np.geomspace(0.1, 10, 19)
    assert np.isnan(kink(x, np.full(19, 2.0)))
    assert np.isnan(kink(x[:3], x[:3]))
    assert np.isnan(kink(x, np.exp(np.random.default_rng(1).standard_normal(19))))
    assert one_step(np.array([0.5, 0.8, 1.0, 1.1])) == pytest.approx(1.25)
    assert one_step(np.array([0.8, 1.2])) == pytest.approx(1.5)
    assert one_step(np.array([2.0, 3.0])) == np.inf
