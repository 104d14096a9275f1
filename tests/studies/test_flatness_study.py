"""Study `flatness`: its tasks on tiny networks, stopped and continued, and its verdicts on records of known truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgescope.errors import EdgescopeError
from edgescope.measures import Reading
from edgescope.report import Finding
from edgescope.store import Record
from edgescope.studies.flatness import Flatness
from edgescope.studies.flatness.claims import flatness_findings
from edgescope.studies.flatness.constructions import ConstructionsTask
from edgescope.studies.flatness.descents import DescentTask, Stage
from edgescope.studies.flatness.pictures import flatness_figures
from edgescope.studies.flatness.runs import QUICK, RADII, SETTINGS, descent_task
from edgescope.studies.flatness.sample_sizes import SampleSizesTask, scale
from edgescope.studies.flatness.seen import enough
from edgescope.studies.study import run_study

TINY = DescentTask(
    name="bias-1SAM",
    cost=1.0,
    method="SAM",
    data="xor:dim=5,train=8,test=50",
    model="shallow:architecture=bias,width=10",
    loss="squared",
    stages=(Stage(20, 0.01, 0.05), Stage(12, 0.02, 0.1)),
    seeds=(0, 1),
)
FULL_BATCH = replace(
    TINY, name="batchnorm-SAM", model="shallow:architecture=batchnorm,width=6", data="xor:dim=5,train=9", batch=None
)
NOISE = replace(
    TINY, name="bias-noise", stages=(Stage(15, 0.01, sigma=0.2, decay=0.01),), loss="logistic:smoothing=0.2"
)
SIZES = SampleSizesTask("samples-d6", 1.0, dim=6, shares=(0.5, 1.0), steps=60, width=8, seeds=(0, 1))


class Stopped(Exception):
    pass


def quiet(share: float, words: str) -> None:
    pass


def stopping(calls: int) -> Callable[[float, str], None]:
    left = [calls]

    def stop(share: float, words: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped

    return stop


@pytest.mark.parametrize("task", [TINY, FULL_BATCH, NOISE, SIZES], ids=lambda task: task.name)
def test_a_task_that_was_stopped_continues_to_the_same_record(
    task: DescentTask | SampleSizesTask, tmp_path: Path
) -> None:
    task.run(tmp_path / "whole", quiet)
    with pytest.raises(Stopped):
        task.run(tmp_path / "parts", stopping(1 if isinstance(task, SampleSizesTask) else 5))
    task.run(tmp_path / "parts", quiet)
    task.run(tmp_path / "parts", quiet)  # one that has ended is left alone
    with Record.open(tmp_path / "whole") as whole, Record.open(tmp_path / "parts") as parts:
        assert whole.status == parts.status == "finished"
        assert whole.fingerprint() == parts.fingerprint()
        if isinstance(task, DescentTask):
            steps, trace = whole.series("trace", "1")
            assert steps[-1] == task.epochs * (1 if task.batch is None else 8)
            assert len(set(trace.tolist())) > 3
            assert 20 in task.moments() or task is NOISE
        else:
            assert whole.series("test_error", "0")[0].tolist() == [round(s * scale(6)) for s in (0.5, 1.0)]


def test_seeds_that_diverge_are_left_out(tmp_path: Path) -> None:
    replace(TINY, stages=(Stage(200, 4.0),)).run(tmp_path, quiet)
    with Record.open(tmp_path) as record:
        assert record.status == "diverged"
        assert "2 of 2 seeds" in record.events()["text"].to_list()


@pytest.mark.parametrize("preset", SETTINGS)
def test_the_presets_can_be_built_and_have_a_task_for_every_claim(preset: str) -> None:
    tasks = Flatness(data="digits", model="mlp:widths=8x8;activation=relu").tasks(preset, 3)  # type: ignore[arg-type]
    names = [task.name for task in tasks]
    assert len(set(names)) == len(names)
    assert {"bias-1SAM", "batchnorm-noise", "samples-d10", "own-SGD-seed3", "own-rescaled", "constructions"} < {*names}
    assert all(task.cost > 0 for task in tasks)
    own = next(task for task in tasks if task.name == "own-SAM0.1-seed3")
    assert own.config.model == "mlp:widths=8x8,activation=relu"  # type: ignore[attr-defined]
    with pytest.raises(EdgescopeError, match="unknown data set 'digts'") as caught:
        Flatness(data="digts").tasks(preset, 0)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_study_that_cannot_be_takes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(EdgescopeError, match="unknown model 'nope'"):
        run_study(Flatness(model="nope"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_run_of_the_preset_starts(tmp_path: Path) -> None:
    """One epoch of each kind of run that the tiny tasks above do not have."""
    for name in ("layernorm-1SAM", "softplus-1SAM", "three-layers-SGD", "ball-bias-1SAM"):
        task = descent_task(name, QUICK, 0)
        stages = tuple(replace(stage, epochs=1) for stage in task.stages[:1])
        model = task.model.rpartition(",")[0] + ",width=9"
        replace(task, stages=stages, seeds=(0,), model=model, data=f"{task.data}:train=10,test=20").run(
            tmp_path / name, quiet
        )
        with Record.open(tmp_path / name) as record:
            assert record.series("training_loss", "0")[1][-1] > 0
            assert np.isnan(record.series("least_trace", "0")[1][-1]) == (name == "softplus-1SAM")


def test_the_constructions_hold(tmp_path: Path) -> None:
    ConstructionsTask("constructions", 1.0, seed=4).run(tmp_path, quiet)
    with Record.open(tmp_path) as record:
        found = by_claim(flatness_findings({"constructions": record}))
    assert found["At interpolation"].verdict == "holds"
    assert found["Flattest networks"].verdict == "holds"
    assert found["Flattest networks"].measured["bias memorizing: trace"] == pytest.approx(22.271, abs=1e-3)
    assert found["With layer norm"].verdict == "inconclusive"


def test_enough_samples_are_found_between_sizes() -> None:
    errors = {10: np.array([0.5, 0.3]), 20: np.array([0.1]), 30: np.array([0.0])}
    assert enough(errors, 0.25) == pytest.approx(15.0)
    assert enough(errors, 0.05) == pytest.approx(25.0)
    assert np.isnan(enough(errors, 0.45))
    assert np.isnan(enough({10: np.array([0.5]), 20: np.array([0.4])}, 0.1))


# Records of known truth: trace over the least one, and test error, of every run.

TRUTH: dict[str, tuple[float, float]] = {
    "no-bias-1SAM": (1.3, 0.001),
    "no-bias-GD": (4.0, 0.002),
    "no-bias-noise": (1.35, 0.0),
    "no-bias-SAM": (1.4, 0.01),
    "bias-1SAM": (1.02, 0.3),
    "bias-GD": (3.0, 0.0),
    "bias-noise": (1.05, 0.25),
    "bias-SAM": (1.1, 0.2),
    "bias-narrow-1SAM": (1.03, 0.28),
    "batchnorm-1SAM": (1.05, 0.001),
    "batchnorm-noise": (1.1, 0.02),
    "batchnorm-SAM": (1.1, 0.03),
    "layernorm-1SAM": (1.01, 0.03),
    "layernorm-noise": (1.1, 0.01),
    "layernorm-SAM": (1.15, 0.02),
    "softplus-1SAM": (np.nan, 0.4),
    "softplus-SGD": (np.nan, 0.01),
    "logistic-1SAM": (1.0, 0.4),
    "logistic-SGD": (2.0, 0.0),
    "three-layers-1SAM": (1.0, 0.4),
    "three-layers-SGD": (2.0, 0.1),
    "ball-no-bias-1SAM": (1.0, 0.05),
    "ball-bias-1SAM": (1.0, 0.2),
}
SCENARIOS = ("no-bias", "bias-", "batchnorm", "layernorm")
LEAST = 20.0
EPOCHS = (0, 10, 4000, 40_000)


GROUPS = {"power": "samples", "less": "own", "gain": "own", "drift": "rescaled", "factor": "rescaled"}
"""What has to be written anew where an option is given."""


def write(
    folder: Path,
    truth: dict[str, tuple[float, float]],
    groups: set[str],
    peak: float = 0.0,
    **options: float,
) -> dict[str, Record]:
    """Runs that end at these values, having had the test error ``peak`` at epoch 4,000, and those of ``groups``."""
    runs: dict[str, Record] = {}
    for name, (excess, error) in truth.items():
        config = {"data": "xor", "epochs": EPOCHS[-1], "lr": 0.01, "optimizer": "SAM"}
        runs[name] = Record.create(folder / name, config=config)
        for epoch, at in zip(EPOCHS, (0.5, 0.3, peak, error), strict=True):
            trace = LEAST * (excess if np.isfinite(excess) else 1.0 + ("SGD" in name))
            trace *= 1 + (options.get("falling", 0.0) if epoch < EPOCHS[-1] else 0)
            values = {
                "test_error": at,
                "training_error": options.get("unfitted", options.get("collapsed", 0.0)),
                "training_loss": 1e-3,
                "trace": trace,
                "least_trace": LEAST if np.isfinite(excess) else np.nan,
                "column_ratio": options.get("columns", 6.0),
            }
            each = [Reading(key, {str(s): v * (1 + 0.01 * s) for s in range(3)}) for key, v in values.items()]
            weights = Reading("neurons", {}, arrays={"0": np.outer(np.arange(1, 4), np.linspace(-1, 1, 30))})
            runs[name].append(epoch * 100, [*each, weights])
        runs[name].set_status("finished")
    power = options.get("power", 1.0)
    for dim in (10, 20, 40) if "samples" in groups else ():
        record = runs[f"samples-d{dim}"] = Record.create(folder / f"samples-d{dim}", config={"dim": dim})
        needed = scale(dim) if power == 1 else dim**power / 5
        for n in (0.5 * needed, needed, 2 * needed):
            error = 0.5 - 0.45 * n / needed
            record.append(round(n), [Reading("test_error", {str(s): max(error, 0.0) for s in range(3)})])
    for number, optimizer in enumerate(("SGD", *(f"SAM{rho:g}" for rho in RADII))):
        for seed in range(3) if "own" in groups else ():
            name, less = f"own-{optimizer}-seed{seed}", options.get("less", 1.0) * number
            runs[name] = Record.create(folder / name, config={"seed": seed, "model": "mlp", "data": "digits"})
            runs[name].append(
                100,
                [
                    Reading("hessian_trace", {"": 50 - 5 * less + seed}),
                    Reading("sharpness", {"1": 20 - 3 * less}),
                    Reading("worst_case_sharpness", {"": 1.0}),
                    Reading(
                        "accuracy", {"test": 0.8 + options.get("gain", 0.01) * number + 0.001 * seed * (number % 2)}
                    ),
                ],
            )
            runs[name].set_status("finished")
    if "rescaled" not in groups:
        return runs
    record = runs["own-rescaled"] = Record.create(folder / "own-rescaled", config={"model": "mlp", "data": "digits"})
    for doublings in range(4):
        loss = Reading("loss", {"train": 0.4 + options.get("drift", 0.0) * doublings})
        sharp = Reading("sharpness", {"1": 10.0 * options.get("factor", 4.0) ** doublings})
        record.append(doublings, [loss, sharp, Reading("hessian_trace", {"": 30.0})])
    record.set_status("finished")
    return runs


def by_claim(findings: list[Finding]) -> dict[str, Finding]:
    """By the first two words, which tell most apart; the rest by three."""
    found: dict[str, Finding] = {}
    for finding in findings:
        words = finding.claim.split()
        key = next(" ".join(words[:k]) for k in range(2, 9) if " ".join(words[:k]) not in found)
        found[key] = finding
        if words[:2] == ["With", "layer"]:
            found["With layer norm"] = finding
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Record]]:
    runs = write(tmp_path_factory.mktemp("base"), TRUTH, set(GROUPS.values()))
    yield runs
    for record in runs.values():
        record.close()


@pytest.fixture
def judged(base: dict[str, Record], tmp_path: Path) -> Iterator[Callable[..., dict[str, str]]]:
    with ExitStack() as closing:

        def judge(changes: dict[str, tuple[float, float]] | None = None, **options: float) -> dict[str, str]:
            touched = {"peak": "bias-1SAM", "columns": "batchnorm-1SAM"}
            touched |= {"falling": "layernorm-1SAM", "unfitted": "softplus-1SAM", "collapsed": "bias-noise"}
            truth = {name: TRUTH[name] for option, name in touched.items() if option in options} | (changes or {})
            groups = {GROUPS[option] for option in options if option in GROUPS}
            changed = write(tmp_path, truth, groups, **options)
            for record in changed.values():
                closing.callback(record.close)
            return {finding.claim: finding.verdict for finding in flatness_findings(base | changed)}

        yield judge


CLAIMS = {
    "scenarios": "Under 1-SAM networks",
    "no bias": "Without bias 1-SAM",
    "batch norm": "With batch norm",
    "bias": "With bias 1-SAM finds",
    "softplus": "The same with softplus",
    "logistic": "The same under",
    "deep": "The same with three",
    "degenerates": "With bias 1-SAM first",
    "degenerates, logistic": "With bias under",
    "layer norm": "With layer norm",
    "bounds": "1-SAM approximately",
    "noise": "Label-noise SGD",
    "full batch": "Full-batch SAM",
    "explains": "Flatness explains",
    "width": "That 1-SAM with bias",
    "ball": "On a smooth task",
    "samples": "Without bias flattest",
    "own": "SAM flattens",
    "followed": "Where SAM flattens",
    "rescaled": "Rescaling",
}


def verdict(found: dict[str, str], key: str) -> str:
    (one,) = [value for claim, value in found.items() if claim.startswith(CLAIMS[key])]
    return one


def test_what_is_true_holds(judged: Callable[..., dict[str, str]]) -> None:
    found = judged()
    assert {key: verdict(found, key) for key in CLAIMS} == dict.fromkeys(CLAIMS, "holds") | {"explains": "fails"}


FLIPS: dict[str, tuple[str, dict[str, tuple[float, float]], dict[str, float], str]] = {
    "bias-generalizes": ("scenarios", {"bias-1SAM": (1.02, 0.01)}, {}, "fails"),
    "bias-as-good-as-descent": ("bias", {"bias-GD": (3.0, 0.15)}, {}, "fails"),
    "bias-not-flatter": ("bias", {"bias-GD": (1.0, 0.0)}, {}, "fails"),
    "no-bias-errs": ("no bias", {"no-bias-GD": (4.0, 0.02)}, {}, "fails"),
    "columns": ("batch norm", {}, {"columns": 4.0}, "fails"),
    "batch-norm-errs": ("batch norm", {"batchnorm-1SAM": (1.05, 0.02)}, {}, "fails"),
    "softplus-fine": ("softplus", {"softplus-1SAM": (np.nan, 0.1)}, {}, "fails"),
    "softplus-not-fitted": ("softplus", {}, {"unfitted": 0.3}, "inconclusive"),
    "logistic-stays-good": ("degenerates, logistic", {"logistic-1SAM": (1.0, 0.0)}, {}, "fails"),
    "logistic-fine": ("logistic", {"logistic-1SAM": (1.0, 0.0)}, {}, "fails"),
    "deep-fine": ("deep", {"three-layers-1SAM": (1.0, 0.2)}, {}, "fails"),
    "never-good": ("degenerates", {}, {"peak": 0.2}, "fails"),
    "stays-good": ("degenerates", {"bias-1SAM": (1.02, 0.1)}, {}, "fails"),
    "layer-norm-errs": ("layer norm", {"layernorm-1SAM": (1.01, 0.06)}, {}, "fails"),
    "layer-norm-at-the-limit": ("layer norm", {"layernorm-1SAM": (1.01, 0.049)}, {}, "inconclusive"),
    "layer-norm-just-above-it": ("layer norm", {"layernorm-1SAM": (1.01, 0.0503)}, {}, "inconclusive"),
    "bias-at-the-limit": ("scenarios", {"bias-1SAM": (1.02, 0.198)}, {}, "inconclusive"),
    "far-from-the-bound": ("bounds", {"layernorm-1SAM": (1.2, 0.03)}, {}, "fails"),
    "not-yet-at-the-bound": ("bounds", {"layernorm-1SAM": (1.2, 0.03)}, {"falling": 0.1}, "inconclusive"),
    "deep-far-from-the-bound": ("bounds", {"three-layers-1SAM": (1.2, 0.4)}, {}, "fails"),
    "noise-divides-otherwise": ("noise", {"bias-noise": (1.05, 0.01)}, {}, "fails"),
    "noise-not-flat": ("noise", {"bias-noise": (1.5, 0.01)}, {}, "inconclusive"),
    "noise-collapses": ("noise", {"bias-noise": (1.05, 0.01)}, {"collapsed": 0.5}, "inconclusive"),
    "narrow-generalizes": ("width", {"bias-narrow-1SAM": (1.03, 0.01)}, {}, "fails"),
    "narrow-not-flat": ("width", {"bias-narrow-1SAM": (1.5, 0.01)}, {}, "inconclusive"),
    "ball-alike": ("ball", {"ball-bias-1SAM": (1.0, 0.0505)}, {}, "fails"),
    "kernel-rate": ("samples", {}, {"power": 2.0}, "fails"),
    "not-flattened": ("own", {}, {"less": -1.0}, "fails"),
    "no-gain": ("followed", {}, {"gain": -0.02}, "fails"),
    "nothing-to-follow": ("followed", {}, {"less": -1.0}, "inconclusive"),
    "another-function": ("rescaled", {}, {"drift": 0.1}, "inconclusive"),
    "same-sharpness": ("rescaled", {}, {"factor": 1.0}, "fails"),
}


@pytest.mark.parametrize("case", FLIPS)
def test_what_is_not_true_does_not_hold(case: str, judged: Callable[..., dict[str, str]]) -> None:
    key, changes, options, expected = FLIPS[case]
    assert verdict(judged(changes, **options), key) == expected


def test_flatness_explains_where_the_flatter_errs_less(judged: Callable[..., dict[str, str]]) -> None:
    changes = {n: (e, 0.1 * np.log(e)) for n, (e, _) in TRUTH.items() if n.startswith(SCENARIOS)}
    assert verdict(judged(changes), "explains") == "holds"


def test_without_runs_nothing_is_judged() -> None:
    assert {finding.verdict for finding in flatness_findings({})} == {"inconclusive"}


def test_the_pictures_can_be_drawn(base: dict[str, Record]) -> None:
    figures = flatness_figures(base)
    assert [figure.name for figure in figures] == [
        "scenarios",
        "explained",
        "minimizers",
        "variants",
        "neurons",
        "samples",
        "own",
    ]
    shown = ("neurons", "scenarios", "explained", "minimizers", "own")
    drawn = {figure.name: figure.svg() for figure in figures if figure.name in shown}
    assert "with layer norm" in drawn["neurons"]
    assert "without bias: trace over the least" in drawn["minimizers"]
    assert "SAM, ρ 0.05" in drawn["own"]
    assert "trace over the least" in drawn["scenarios"]
    assert "label-noise SGD" in drawn["explained"]
    assert flatness_figures({}) == []
