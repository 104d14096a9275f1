"""Study `tradeoff`: its verdicts on records whose truth is known, and what it reads from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from edgescope.measures import Reading
from edgescope.report import Finding
from edgescope.store import Record
from edgescope.studies.tradeoff.claims import tradeoff_findings
from edgescope.studies.tradeoff.curves import LEAST, curves_of
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


def parts_of(world: World, ratio: float, wobble: float) -> dict[str, dict[str, float]]:
    norm, settled = world.norm(ratio), world.settled(ratio)
    return {
        "loss": {"train": 0.0499, "test": 0.3 * world.test(ratio) + wobble},
        "sharpness": {"1": 30 * world.sharpness(ratio)},
        "norms": {"l1": 500 * norm, "l2": 7 * norm},
        "average_sharpness": {"": 0.01 * world.adaptive(ratio)},
        "worst_case_sharpness": {"": 0.02 * world.adaptive(ratio)},
        "settled_norms": {f"{k}/l{n}": v * settled for k in ("averaged", "decayed") for n, v in ((1, 500), (2, 7))},
    }


def written(folder: Path, config: dict[str, float], steps: dict[int, dict[str, dict[str, float]]]) -> Record:
    record = Record.create(folder, config=config)
    for step, readings in steps.items():
        record.append(step, [Reading(measure, parts) for measure, parts in readings.items()])
    record.note(max(steps), "stopped", "the training loss has reached its threshold")
    record.set_info("steps", max(steps))
    record.set_status("finished")
    return record


def curve(folder: Path, group: str, seed: int, world: World, noise: float = 0.001) -> dict[str, Record]:
    """Gradient flow and descent of one network; the last rate diverges."""
    rng, name = np.random.default_rng(seed), f"{group}-seed{seed}"
    flow = parts_of(replace(world, sharpness=PAPER.sharpness, norm=PAPER.norm), 1.0, 0.0)
    start = {"sharpness": {"1": 30 / world.sharpens}}
    config = {"stop_loss": 0.05, "lr": 1.0}
    runs = {f"{name}/flow": written(folder / name / "flow", config, {0: start, 90: flow})}
    runs[f"{name}/flow"].set_info(LEAST, world.least * 30 / world.sharpens)
    for ratio in RATIOS:
        place, lr = folder / name / f"x{ratio:g}", {"lr": ratio * 2 / 30, "stop_loss": 0.05}
        runs[f"{name}/x{ratio:g}"] = written(place, lr, {100: parts_of(world, ratio, noise * rng.standard_normal())})
    runs[f"{name}/x{RATIOS[-1]:g}"].set_status("diverged")
    return runs


def study(folder: Path, worlds: dict[str, World], seeds: tuple[int, ...] = SEEDS) -> dict[str, Record]:
    return {
        k: v for group, world in worlds.items() for seed in seeds for k, v in curve(folder, group, seed, world).items()
    }


@pytest.fixture(scope="module")
def paper_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    no_valley = replace(PAPER, test=lambda r: 1 / (1 + r))
    worlds = {"MLP-MSE": no_valley, "MLP-CE": PAPER, "digits-MSE": PAPER}
    return study(tmp_path_factory.mktemp("paper"), worlds)


@pytest.fixture(scope="module")
def paper(paper_runs: dict[str, Record]) -> list[Finding]:
    return tradeoff_findings(paper_runs)


@pytest.fixture(scope="module")
def contrary(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    worlds = {"MLP-MSE": replace(CONTRARY, test=PAPER.test), "MLP-CE": CONTRARY, "digits-MSE": CONTRARY}
    return tradeoff_findings(study(tmp_path_factory.mktemp("contrary"), worlds))


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


def test_growth_that_is_oscillation_is_told(tmp_path: Path) -> None:
    found = tradeoff_findings(study(tmp_path, {"MLP-MSE": replace(PAPER, settled=lambda r: 1.0)}, (0,)))
    assert one(found, "no oscillation").verdict == "inconclusive"  # a slope of exactly 0 has no line
    slight = replace(PAPER, settled=lambda r: 1 + 0.01 * max(0, r - 1))
    found = tradeoff_findings(study(tmp_path / "b", {"MLP-MSE": slight}, (0,)))
    assert one(found, "no oscillation").verdict == "fails"


def test_a_network_that_does_not_sharpen_is_left_out_of_the_claims_about_the_edge(tmp_path: Path) -> None:
    worlds = {"MLP-MSE": PAPER, "digits-MSE": replace(CONTRARY, sharpens=1.05)}
    found = tradeoff_findings(study(tmp_path, worlds, (0,)))
    assert one(found, "Gradient flow sharpens").verdict == "fails"
    for claim in ("edge", "norm", "kink", "oscillation", "scale"):
        assert one(found, CLAIMS[claim]).verdict == "holds"
        assert not any("digits" in figure for figure in one(found, CLAIMS[claim]).measured)
    assert any("digits" in figure for figure in one(found, CLAIMS["aligned"]).measured)


def test_the_least_norm_may_lie_at_the_lowest_test_loss(tmp_path: Path) -> None:
    falls = replace(PAPER, norm=lambda r: 1 + 0.05 * np.log(r / 2) ** 2)
    found = tradeoff_findings(study(tmp_path, {"MLP-CE": falls}))
    assert one(found, "end of least norm").verdict == "fails"


def test_a_valley_no_deeper_than_seeds_differ_is_none(tmp_path: Path) -> None:
    flat = replace(PAPER, test=lambda r: 1 + 0.001 * np.log(r / 2) ** 2)
    runs = {k: v for seed in SEEDS for k, v in curve(tmp_path, "MLP-CE", seed, flat, noise=0.05).items()}
    assert one(tradeoff_findings(runs), CLAIMS["cross-entropy"]).verdict == "fails"
    single = curve(tmp_path / "single", "MLP-CE", 0, PAPER)
    assert one(tradeoff_findings(single), CLAIMS["cross-entropy"]).verdict == "inconclusive"


def test_rates_that_diverge_or_never_arrive_are_rows(tmp_path: Path) -> None:
    runs = curve(tmp_path, "MLP-MSE", 0, PAPER)
    late = Record.create(tmp_path / "late", config={"lr": 5 * 2 / 30, "stop_loss": 0.05})
    late.append(400, [Reading("loss", {"train": 0.07, "test": 0.4}), Reading("sharpness", {"1": 5.0})])
    late.set_status("finished")
    (found,) = curves_of(runs | {"MLP-MSE-seed0/x5": late})
    assert found.critical_lr == pytest.approx(2 / 30)
    assert found.table["ratio"].to_list() == pytest.approx([*RATIOS[:-1], 5.0, RATIOS[-1]])
    assert found.table["status"].to_list() == ["reached"] * 10 + ["unfinished", "diverged"]
    assert found.reached.height == 10
    assert found.table["test_loss"][10] == 0.4


def test_what_was_not_run_is_inconclusive(paper: list[Finding], tmp_path: Path) -> None:
    assert {finding.verdict for finding in paper if "Diagonal" in finding.claim} == {"inconclusive"}
    nothing = written(tmp_path / "r", {"lr": 0.1}, {0: {"loss": {"train": 1.0}}})
    assert {finding.verdict for finding in tradeoff_findings({"rescaled-ReLU": nothing})} == {"inconclusive"}


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


def test_pictures_are_drawn_from_the_same_records(paper_runs: dict[str, Record]) -> None:
    names = [figure.name for figure in tradeoff_figures(paper_runs)]
    assert names == ["tradeoff-mlp-mse", "networks", "objections"]
