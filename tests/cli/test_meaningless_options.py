"""Options that mean nothing end a command with one line and exit code 2, and leave no folder behind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from said import Run

from edgescope.errors import InputError
from edgescope.sweep import grid
from edgescope.sweep import run as run_sweep
from edgescope.training import train

SMALL = ("--data", "digits:train=20,test=10", "--model", "mlp:widths=4", "--steps", "2")

MEASURES = {
    "sharpness:k=0": "measure 'sharpness' with k=0; expected a whole number of at least 1; try k=1",
    "sharpness:k=5000": "k=5000; expected at most 310, the number of parameters",
    "sharpness:tol=nan": "'sharpness' with tol=nan; expected a finite number above 0 and below 1; try tol=0.001",
    "ratio:tol=0": "measure 'ratio' with tol=0",
    "effective_sharpness:tol=1": "measure 'effective_sharpness' with tol=1",
    "spectrum:probes=0": "measure 'spectrum' with probes=0",
    "spectrum:seed=100000000000000000000000000": "seed=100000000000000000000000000; .* below 2",
    "hessian_trace:num_matvecs=0": "measure 'hessian_trace' with num_matvecs=0; expected a whole number of at least 6",
    "hessian_frobenius:num_matvecs=5": "measure 'hessian_frobenius' with num_matvecs=5",
    "hessian_frobenius:probes=4": "has no option 'probes' any more; expected num_matvecs=, the number of products",
    "sharpness_dimension:lr=-1": "measure 'sharpness_dimension' with lr=-1",
    "sharpness_dimension:methods=slq+slq": "methods='slq.slq'; expected each method once",
    "sharpness_dimension:batch=21": "batch=21; expected at most 20, the number of samples",
    "rds_sharpness:batch=0": "measure 'rds_sharpness' with batch=0",
    "rds_sharpness:batch=10000000": "batch=10000000; expected at most 20, the number of samples",
    "worst_case_sharpness:restarts=10000000000": "10,000,000,000 restarts needs an estimated .* TiB, and .* be used",
    "generalized_sharpness:restarts=100000000000": "100,000,000,000 restarts needs an estimated .* TiB",
    "persistent_homology:iterates=10000000": "10,000,000 iterates needs an estimated .* TiB",
    "quadratic_model:steps=100000000000000": "100,000,000,000,000 steps needs an estimated .* TiB",
}


@pytest.mark.parametrize("measure", MEASURES)
def test_measures_that_mean_nothing_or_cannot_fit(run: Run, here: Path, measure: str) -> None:
    said = run("train", *SMALL, "--measures", "loss", measure, "--out", "a").refusal()
    assert re.search(MEASURES[measure], said), said
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--model mlp:widths=0", "model 'mlp' with widths[0]=0"),
        ("--model mlp:widths=x", "model 'mlp' with widths='x'"),
        ("--model mlp:widths=99999999999", "7,499,999,999,935 parameters needs an estimated 27.3 TiB"),
        ("--model mlp:widths=99999999999x99999999999", "2^63 or more parameters needs"),
        ("--model gpt:depth=100000", "model 'gpt' with depth=100000; expected a whole number from 1 to 1,000"),
        ("--data digits:train=-1", "data set 'digits' with train=-1"),
        (
            "--data digits:train=100000",
            "100,000 training samples requested from data set 'digits'; expected 1 to 1,442",
        ),
        ("--data xor:train=100000000000", "data set 'xor' of 100,000,002,000 samples needs an estimated"),
        ("--data modular-addition:modulus=1000000", "modulus=1,000,000 needs an estimated"),
        ("--data modular-addition:share=inf", "with share=inf"),
        ("--optimizer sgd:momentum=nan", "optimizer SGD with momentum=nan"),
        ("--optimizer sgd:dampening=2", "optimizer SGD with dampening=2"),
        ("--optimizer sgd:dampening=0.1", "optimizer SGD with dampening=0.1 and no momentum"),
        ("--optimizer sgd:nesterov=true", "optimizer SGD with nesterov"),
        ("--optimizer adam:weight_decay=1e308", "optimizer Adam with weight_decay=1e+308"),
        ("--optimizer adam:betas=1x1", "optimizer Adam with betas[0]=1"),
        ("--optimizer adam:betas=0.9", "optimizer Adam with betas=(0.9,); expected two numbers"),
        ("--optimizer sam:rho=0", "optimizer SAM with rho=0"),
        ("--optimizer muon:ns_steps=100", "optimizer Muon with ns_steps=100"),
        ("--optimizer langevin:temperature=-1", "optimizer Langevin with temperature=-1"),
        ("--loss logistic:smoothing=0.5", "loss 'logistic' with smoothing=0.5"),
        ("--lr 1e308", "a run with lr=1e+308; expected a finite number above 0 and at most 1e+18"),
        ("--steps " + "9" * 30, "a run with steps=" + "9" * 30 + "; expected a whole number of at least 1, below 2^63"),
        ("--seed " + "9" * 30, "a run with seed=" + "9" * 30),
        ("--seed -1", "a run with seed=-1"),
        ("--batch 0", "a run with batch=0"),
        ("--batch 21", "a run with batch=21; expected at most 20, the number of samples"),
        ("--threads 100000", "a run with threads=100000; expected a whole number from 1 to 1,024"),
        ("--stop-accuracy 1.5", "a run with stop_accuracy=1.5"),
        ("--budget inf", "a run with budget=inf"),
    ],
)
def test_runs_that_mean_nothing_or_cannot_fit(run: Run, here: Path, options: str, words: str) -> None:
    assert words in run("train", *SMALL, *options.split(), "--out", "a").refusal()
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--lr 1e300", "learning rates '1e300'"),
        ("--lr 1e-3:1:1000000000000log", "learning rates '1e-3:1:1000000000000log'"),
        ("--lr 0.1 --batch 21", "a run with batch=21; expected at most 20"),
        ("--lr 0.1 --seed -1", "a run with seed=-1"),
        ("--lr 0.1 --model mlp:widths=99999999999", "parameters needs an estimated"),
    ],
)
def test_sweeps_that_mean_nothing_or_cannot_fit(run: Run, here: Path, options: str, words: str) -> None:
    assert words in run("sweep", *SMALL, *options.split(), "--out", "a").refusal()
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("edge --seed -1", "a study with seed=-1"),
        ("edge --seed " + "9" * 30, "a study with seed="),
        ("edge --jobs 0", "a sweep with jobs=0"),
        ("flatness:lr=nan", "study 'flatness' with lr=nan"),
        ("flatness:lr=0", "a run with lr=0"),
        ("flatness:model=mlp:widths=0", "model 'mlp' with widths[0]=0"),
        ("dimension:images=xor", "data set 'xor' has no option 'pool'"),
        ("dimension:images=digits:train=30", "option 'train' of data set 'digits' was given twice"),
        ("dimension:text=digits", "data set 'digits' has no option 'length'"),
    ],
)
def test_studies_that_mean_nothing(run: Run, here: Path, arguments: str, words: str) -> None:
    assert words in run("run", *arguments.split(), "--out", "a").refusal()
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--k 0", "inspect with --k=0"),
        ("--seed -1", "inspect with --seed=-1"),
        ("--optimizer sgd --lr 1e308", "inspect with --lr=1e+308"),
        ("--optimizer sgd:momentum=1", "optimizer SGD with momentum=1"),
    ],
)
def test_inspections_that_mean_nothing_are_refused_before_a_file_is_read(
    run: Run, here: Path, options: str, words: str
) -> None:
    assert words in run("inspect", "nowhere.pt", "--objective", "a:b", *options.split()).refusal()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("grok-mlp", r"a run given as 'grok-mlp'; expected a RunConfig; try SETUPS.build\('grok-mlp'\)"),
        ({"lr": 0.1}, r"a run given as a dict; expected a RunConfig; try RunConfig\(...\)"),
        (None, "a run given as a NoneType"),
    ],
)
def test_anything_but_a_configuration_is_named(tmp_path: Path, config: object, words: str) -> None:
    for make in (
        lambda: train(config, tmp_path / "a"),  # type: ignore[arg-type]
        lambda: grid(config, lr=[0.1]),  # type: ignore[arg-type]
        lambda: run_sweep({"a": config}, tmp_path / "a"),  # type: ignore[dict-item]
    ):
        with pytest.raises(InputError, match=words) as caught:
            make()
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
