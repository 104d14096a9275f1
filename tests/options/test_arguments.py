"""No public function takes a number that means nothing: each numeric argument, and each value of its type."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pytest
import torch

import edgescope as es
from edgescope import dimension, linalg, phases, statistics
from edgescope.errors import InputError, MemoryBudgetError
from edgescope.objective import mini_batches
from edgescope.options import shown
from edgescope.simulate.chains import chains
from edgescope.simulate.linear_data import Gaussian
from edgescope.simulate.linear_nets import balanced_nets, random_nets, simulate
from edgescope.simulate.relu import ReluDescent
from edgescope.theory.deep_linear import Mode
from edgescope.theory.diagonal import Problem

# torch's own warning, when its forward-mode formulas are imported
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

COUNT: Final = (-1, 0, 2.5, math.nan, math.inf, True, "3", [1], 10**26)
FROM_0: Final = (*(value for value in COUNT if value != 0), False)
POSITIVE: Final = (-1, 0, math.nan, math.inf, -math.inf, True, "0.1", [0.1], 10**400)
NOT_NEGATIVE: Final = tuple(value for value in POSITIVE if value != 0)
SHARE: Final = (*POSITIVE, 1, 1e308)
TRUTH: Final = (0, 1, "yes", None)


def objective() -> es.Objective:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    batch = (torch.randn(12, 3).double(), torch.randn(12, 2).double())
    return es.Objective(model, es.supervised(es.losses.half_mse), batch, threads=1, path="kept")


def point(shift: float) -> torch.Tensor:
    return objective().parameters() + shift


def relu_descent(**options: Any) -> ReluDescent:
    network = es.MODELS.build("shallow:width=3").build((4,), 1)
    return ReluDescent(network, np.ones((5, 4)), np.ones(5), **{"lr": 0.01} | options)  # type: ignore[arg-type]


def weights() -> list[torch.Tensor]:
    return [torch.ones(2, 3, requires_grad=True)]


CLOUD = np.random.default_rng(0).random((20_000, 2))
GAUSSIAN = Gaussian(np.eye(2) / 2)
BOUND = {"dimension": 2.0, "n": 100, "delta": 0.1, "lipschitz": 1.0, "bound": 1.0}

FUNCTIONS: dict[str, tuple[Callable[..., Any], dict[str, tuple[Any, ...]]]] = {
    "top_eigenpairs": (
        lambda **o: es.top_eigenpairs(objective(), **o),
        {"k": COUNT, "tol": SHARE, "block": COUNT, "max_products": COUNT, "basis": COUNT, "seed": FROM_0},
    ),
    "EigenTracker": (
        lambda **o: es.EigenTracker(objective(), **o),
        {
            "k": COUNT,
            "tol": SHARE,
            "threshold": (math.nan, True, "3"),  # it is infinite at learning rate 0
            "max_pairs": COUNT,
            "max_products": COUNT,
            "seed": FROM_0,
        },
    ),
    "EigenvalueBound": (
        lambda **o: linalg.EigenvalueBound(objective(), **o),
        {"max_steps": COUNT, "failure_probability": SHARE, "seed": FROM_0},
    ),
    "spectrum": (
        lambda **o: es.spectrum(objective(), **o),
        {"probes": COUNT, "steps": COUNT, "deflate": FROM_0, "max_steps": COUNT, "seed": FROM_0},
    ),
    "trace": (lambda **o: es.trace(objective(), **o), {"num_matvecs": (*COUNT, 5), "block": COUNT, "seed": FROM_0}),
    "frobenius": (
        lambda **o: linalg.frobenius(objective(), **o),
        {"num_matvecs": (*COUNT, 5), "block": COUNT, "seed": FROM_0},
    ),
    "generalized_sharpness": (
        lambda **o: es.generalized_sharpness(objective(), "linf", **o),
        {"restarts": (*COUNT, 10**14), "iterations": COUNT, "tol": SHARE, "certificate": TRUTH, "seed": FROM_0},
    ),
    "directional_smoothness": (
        lambda **o: es.directional_smoothness(objective(), point(0), point(0.1), **o),
        {"method": ("difference", 0, None), "geometry": ("nope", 0, None)},
    ),
    "sharpness_dimension": (
        lambda **o: es.sharpness_dimension(objective(), **{"lr": 0.1} | o),
        {
            "lr": POSITIVE,
            "batch_size": (*COUNT, 13),
            "batches": COUNT,
            "probes": COUNT,
            "steps": COUNT,
            "max_steps": COUNT,
            "tol": SHARE,
            "deflate": FROM_0,
            "bandwidth": NOT_NEGATIVE,
            "quantiles": COUNT,
            "dead_zones": (0.1, None, (0,), (math.nan,)),
            "seed": FROM_0,
        },
    ),
    "lyapunov_exponents": (
        lambda **o: es.lyapunov_exponents(objective(), **{"k": 2, "lr": 0.1, "steps": 2} | o),
        {"k": COUNT, "lr": POSITIVE, "steps": COUNT, "batch_size": (*COUNT, 13), "warmup": FROM_0, "seed": FROM_0},
    ),
    "kaplan_yorke": (
        lambda **o: es.kaplan_yorke([0.5, -1.0], **o),
        {"weights": (-1, [1, math.nan], [-1, 1], "x"), "allow_singular": TRUTH},
    ),
    "box_dimension": (
        lambda **o: dimension.box_dimension(CLOUD, **o),
        {"levels": (*COUNT, 1, 40), "per_box": (*POSITIVE, 0.5)},
    ),
    "dimension_bound": (
        lambda **o: dimension.dimension_bound(**BOUND | {"information": 1.0, "zeta": 0.1, "constant": 1.0} | o),
        {
            "dimension": NOT_NEGATIVE,
            "n": COUNT,
            "delta": SHARE,
            "lipschitz": NOT_NEGATIVE,
            "bound": POSITIVE,
            "information": NOT_NEGATIVE,
            "zeta": SHARE,
            "constant": NOT_NEGATIVE,
        },
    ),
    "stability_bound": (
        lambda **o: dimension.stability_bound(**BOUND | {"stability": 0.1} | o),
        {"stability": NOT_NEGATIVE, "n": COUNT},
    ),
    "RandomAttractor": (
        lambda **o: dimension.RandomAttractor(**o),
        {"lr": POSITIVE, "amplitude": NOT_NEGATIVE, "frequency": NOT_NEGATIVE, "noise": NOT_NEGATIVE},
    ),
    "RandomAttractor.run": (
        lambda **o: dimension.RandomAttractor().run(**{"particles": 20_000, "steps": 3} | o),
        {"particles": (*COUNT, 999, 10**14), "steps": COUNT, "warmup": (*FROM_0, 3), "seed": FROM_0},
    ),
    "scan": (
        lambda **o: phases.scan(objective(), **{"decays": [0.1, 0.2], "lr": 0.1, "steps": 2, "refine": 0} | o),
        {
            "decays": (0.1, [0.1], [0.1, math.nan], [0.1, -1], "x", None),
            "lr": POSITIVE,
            "steps": COUNT,
            "jitter": NOT_NEGATIVE,
            "tol": POSITIVE,
            "refine": (*FROM_0, 21),
            "first": COUNT,
            "seed": FROM_0,
        },
    ),
    "barrier": (
        lambda **o: phases.barrier(objective(), point(0), point(0.1), **{"images": 2, "steps": 2} | o),
        {"images": (*COUNT, 10**13), "steps": COUNT, "tol": POSITIVE},
    ),
    "EscapeTimes": (
        lambda **o: phases.EscapeTimes(**{"times": [1.0, 2.0], "escaped": [True, True]} | o),
        {"times": (1.0, [0.0, 1.0], [math.nan, 1.0], "x"), "escaped": (True, [True])},
    ),
    "arrhenius": (
        lambda **o: phases.arrhenius(**{"inverse_temperatures": [1.0, 2.0], "groups": []} | o),
        {"inverse_temperatures": (1.0, [1.0, math.nan], "x"), "groups": (3, None, [1.0, 2.0])},
    ),
    "Mode": (
        lambda **o: Mode(**{"depth": 2, "signal": 1.0} | o),
        {"depth": COUNT, "signal": POSITIVE, "variance": POSITIVE},
    ),
    "Problem.descend": (
        lambda **o: Problem(np.eye(2, 3), np.ones(2)).descend(**{"lr": 0.1, "scale": 0.1} | o),
        {"lr": POSITIVE[:-2], "scale": POSITIVE[:-2], "tol": POSITIVE, "max_steps": FROM_0},
    ),
    "chains": (
        lambda **o: chains(Mode(2, 0.9), **{"decay": 0.1, "lr": 0.1, "steps": 3, "level": 0.5} | o),
        {
            "decay": POSITIVE,
            "lr": POSITIVE,
            "steps": COUNT,
            "level": (math.nan, math.inf, True, "x", 0),
            "start": (math.nan, math.inf, True, "x"),
            "temperature": POSITIVE,
            "batch": COUNT,
            "replicas": (*COUNT, 10**14),
            "threads": (*COUNT, 10**6),
            "seed": FROM_0,
        },
    ),
    "simulate": (
        lambda **o: simulate(
            GAUSSIAN, random_nets((2, 3, 2)), **{"sizes": (2, 3, 2), "decay": 0.1, "lr": 0.1, "steps": 3} | o
        ),
        {
            "sizes": (3, None, (2, 2), (2, 0, 2)),
            "decay": NOT_NEGATIVE,
            "lr": POSITIVE,
            "steps": COUNT,
            "batch": COUNT,
            "temperature": POSITIVE,
            "every": COUNT,
            "threads": COUNT,
            "seed": FROM_0,
        },
    ),
    "random_nets": (
        lambda **o: random_nets(**{"sizes": (2, 3, 2)} | o),
        {"sizes": (3, None, (2,), (2, 0), (2, 10**8, 2)), "replicas": (*COUNT, 10**14), "seed": FROM_0},
    ),
    "balanced_nets": (
        lambda **o: balanced_nets(**{"end_to_end": np.eye(2), "sizes": (2, 3, 2)} | o),
        {"sizes": (3, None, (2, 0, 2)), "replicas": (*COUNT, 10**14)},
    ),
    "Gaussian.draw": (lambda **o: GAUSSIAN.draw(**{"count": 3} | o), {"count": (*COUNT, 10**13), "seed": FROM_0}),
    "ReluDescent": (
        relu_descent,
        {
            "lr": POSITIVE,
            "rho": POSITIVE,
            "sigma": POSITIVE,
            "flip": SHARE,
            "weight_decay": NOT_NEGATIVE,
            "seed": FROM_0,
        },
    ),
    "ReluDescent.advance": (lambda **o: relu_descent().advance(**{"steps": 1} | o), {"steps": FROM_0}),
    "Bootstrap": (
        statistics.intervals.Bootstrap,
        {"resamples": (*COUNT, 99), "level": SHARE, "seed": FROM_0},
    ),
    "kendall": (
        lambda **o: statistics.kendall([1, 2, 3, 5], [1, 3, 2, 4], **o),
        {"ties": ("c", 1, None), "bootstrap": (3, "2000", True, statistics.intervals.Bootstrap)},
    ),
    "granulated_kendall": (
        lambda **o: statistics.granulated_kendall([1, 2, 3, 5], [1, 3, 2, 4], {"lr": [1, 2, 3, 4]}, **o),
        {"bootstrap": (3, "2000", True)},
    ),
    "partial_rank_correlation": (
        lambda **o: statistics.partial_rank_correlation(
            range(10), [1, 0, 3, 2, 5, 4, 7, 8, 6, 9], {"lr": [1, 2, 5, 3, 4] * 2}, **o
        ),
        {"method": ("pearson", 1, None), "bootstrap": (3, "2000", True)},
    ),
    "mini_batches": (
        lambda **o: list(mini_batches(objective(), **{"size": 4, "count": 1} | o)),
        {"size": (*COUNT, 13), "count": tuple(v for v in COUNT if v != 10**26), "seed": FROM_0},
    ),
    "persistence": (
        lambda **o: statistics.persistence(np.abs(CLOUD[:30, :1] - CLOUD[:30, 0]), **o),
        {"alpha": (*POSITIVE, 101), "seed": FROM_0},
    ),
    "SAM": (
        lambda **o: es.optim.SAM(weights(), **{"lr": 0.1} | o),
        {
            "rho": POSITIVE,
            "adaptive": TRUTH,
            "lr": NOT_NEGATIVE,
            "momentum": (*NOT_NEGATIVE, 1),
            "weight_decay": (*NOT_NEGATIVE, 1e308),
            "dampening": (*NOT_NEGATIVE, 2),
        },
    ),
    "SAM.add_param_group": (
        lambda **o: es.optim.SAM(weights(), lr=0.1).add_param_group({"params": weights()} | o),
        {"rho": POSITIVE, "adaptive": TRUTH, "lr": NOT_NEGATIVE, "momentum": (*NOT_NEGATIVE, 1)},
    ),
    "SteepestDescent": (
        lambda **o: es.optim.SteepestDescent(weights(), **{"lr": 0.1} | o),
        {
            "lr": NOT_NEGATIVE,
            "geometry": ("nope", "", 3, None, "spectral:steps=0"),
            "normalized": TRUTH,
            "momentum": (*NOT_NEGATIVE, 1),
            "weight_decay": (*NOT_NEGATIVE, 1e308),
        },
    ),
    "LabelNoiseSGD": (
        lambda **o: es.optim.LabelNoiseSGD(weights(), **{"lr": 0.1, "sigma": 0.1} | o),
        {
            "lr": (*NOT_NEGATIVE, None),
            "sigma": POSITIVE,
            "classes": (*COUNT, 1),
            "momentum": (*NOT_NEGATIVE, 1, None),
            "weight_decay": (*NOT_NEGATIVE, None),
        },
    ),
    "LabelNoiseSGD of classes": (
        lambda **o: es.optim.LabelNoiseSGD(weights(), classes=3, **o),
        {"flip": SHARE},
    ),
    "Langevin": (
        lambda **o: es.optim.Langevin(weights(), **{"lr": 0.1, "temperature": 0.1} | o),
        {
            "lr": (*NOT_NEGATIVE, None),
            "temperature": (*POSITIVE, None),
            "weight_decay": (*NOT_NEGATIVE, None),
        },
    ),
    "Langevin.add_param_group": (
        lambda **o: es.optim.Langevin(weights(), temperature=0.1).add_param_group({"params": weights()} | o),
        {"lr": NOT_NEGATIVE, "temperature": POSITIVE},
    ),
    "GradientFlow": (
        lambda **o: es.optim.GradientFlow(weights(), **o),
        {"max_step": POSITIVE, "rtol": POSITIVE, "atol": POSITIVE, "safety": (*POSITIVE, 2.6)},
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_that_mean_nothing_are_refused_in_one_line(name: str) -> None:
    call, arguments = FUNCTIONS[name]
    for argument, values in arguments.items():
        for value in values:
            said = refusal(call, argument, value)
            assert "\n" not in said
            assert len(said) < 500


def refusal(call: Callable[..., Any], argument: str, value: Any) -> str:
    try:
        call(**{argument: value})
    except (InputError, MemoryBudgetError) as error:
        return str(error)
    pytest.fail(f"{argument}={shown(value)} was taken")


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("arrhenius", "LabelNoiseSGD of classes")])
def test_the_functions_work_as_they_are_called_here(name: str) -> None:
    FUNCTIONS[name][0]()
