"""Every registered measure on models of 1 to 8 parameters, of Hessians of every rank, in every unit of the loss."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor, nn

from edgescope.losses import supervised
from edgescope.measures import MEASURES, Moment
from edgescope.measures.sharpness import Sharpness
from edgescope.monitor import Monitor
from edgescope.objective import Objective

SHORTENED = {
    "learning_coefficient": "learning_coefficient:chains=2,times=1,burn_in=0.5",
    "persistent_homology": "persistent_homology:iterates=20",
    "quadratic_model": "quadratic_model:steps=3",
    "settled_norms": "settled_norms:steps=3",
    "sharpness": "sharpness:k=8,grow=true",
}
BESIDE = [
    "generalized_sharpness:geometry=linf",
    "generalized_sharpness:geometry=spectral",
    "generalized_sharpness:geometry=blocks",
    "worst_case_sharpness:norm=linf",
    "hessian_trace:method=gauss-newton",
    "rds_sharpness:batch=4,batches=2",
    "sharpness_dimension:methods=exact+slq,batch=4,batches=2",
]
UNITS = [1.0, 1e20, 1e-20]
DTYPES = [torch.float32, torch.float64]


class Tiny:
    """A model of so many parameters on 10 samples, its loss times ``unit``.

    ``kind``: "regression" has a Hessian of full rank; "one sample" has one of low rank; "linear" has none, at a
    gradient that is not zero; "constant" has none, at a loss and a gradient of zero.
    """

    def __init__(self, size: int, kind: str, unit: float = 1.0, dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(size)
        layers = {
            1: nn.Linear(1, 1, bias=False),
            2: nn.Linear(1, 1),
            3: nn.Linear(2, 1),
            4: nn.Linear(2, 2, bias=False),
            5: nn.Linear(4, 1),
            6: nn.Linear(2, 2),
            7: nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)),
            8: nn.Linear(3, 2),
        }
        self.unit, self.kind = unit, kind
        self.model = layers[size].to(dtype)
        weights = [p for p in self.model.parameters() if p.ndim == 2]
        inputs = torch.randn(10, weights[0].shape[1], dtype=dtype)
        if kind == "one sample":
            inputs = inputs[:1].repeat(10, 1)
        self.data = inputs, torch.randn(10, weights[-1].shape[0], dtype=dtype)
        self.loss_fn = supervised(self.criterion)
        self.objective, self.test = (
            Objective(self.model, self.loss_fn, tuple(t[:n] for t in self.data), path="kept", threads=1)
            for n in (10, 5)
        )

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        criteria = {"linear": (outputs * targets).mean(), "constant": 0 * outputs.sum()}
        return self.unit * criteria.get(self.kind, nn.functional.mse_loss(outputs, targets))

    def hessian(self) -> Tensor:
        """Dense and in float64, in the unit 1."""
        double = [tensor.double() for tensor in self.data]
        shapes = {name: p.shape for name, p in self.model.named_parameters()}

        def loss(w: Tensor) -> Tensor:
            pieces = w.split([shape.numel() for shape in shapes.values()])
            named = {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
            outputs = torch.func.functional_call(self.model, named, (double[0],))
            return self.criterion(outputs, double[1]) / self.unit

        return torch.autograd.functional.hessian(loss, self.objective.parameters().double())

    def train(self, optimizer: torch.optim.Optimizer, monitor: Monitor, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            self.loss_fn(self.model, self.data).backward()
            optimizer.step()
            monitor.step()


@pytest.mark.filterwarnings("ignore::edgescope.errors.EdgescopeWarning")  # of what has no value, as the notes say
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    ("size", "kind"),
    [
        *((size, "regression") for size in (1, 2, 7)),
        *((size, "one sample") for size in (2, 6)),
        *((size, "linear") for size in (1, 5)),
        (2, "constant"),
    ],
)
def test_every_measure_reads_or_says_why_not(size: int, kind: str, unit: float, dtype: torch.dtype) -> None:
    tiny = Tiny(size, kind, unit, dtype)
    optimizer = torch.optim.SGD(tiny.model.parameters(), lr=0.3 / unit)
    specs = [SHORTENED.get(name, name) for name in MEASURES.names()]
    monitor = Monitor(tiny.objective, optimizer, every=1, measures=specs, evaluations={"test": tiny.test})
    tiny.train(optimizer, monitor, 3)
    table = monitor.table()
    assert set(table["measure"]) == set(MEASURES.names())
    for row in table.iter_rows(named=True):
        infinite = MEASURES[row["measure"]].may_be_infinite and row["value"] == math.inf
        assert row["value"] is None or infinite or math.isfinite(row["value"]), row
        assert row["error"] is None or row["error"] >= 0, row
        assert row["value"] is not None or (row["note"] and "\n" not in row["note"]), row
    check_against_dense(tiny, monitor)


def check_against_dense(tiny: Tiny, monitor: Monitor) -> None:
    """The last readings of what has a closed form in the dense Hessian."""
    hessian = tiny.hessian()
    exact = torch.linalg.eigvalsh(hessian).flip(0)
    slack = 1e2 * torch.finfo(tiny.objective.dtype).eps * max(float(exact.abs().max()), 1e-30)

    def value(measure: str, part: str = "") -> float:
        found = monitor.value(measure, part)
        assert found is not None, (measure, part)
        return found / tiny.unit

    for number, eigenvalue in enumerate(exact.tolist(), start=1):
        assert value("sharpness", str(number)) == pytest.approx(eigenvalue, abs=slack)
    assert value("effective_sharpness") == pytest.approx(float(exact[0]), abs=slack)
    assert value("generalized_sharpness", "lower") == pytest.approx(float(exact[0]), abs=slack)
    assert value("hessian_trace") == pytest.approx(float(hessian.trace()), abs=slack * len(exact))
    assert value("spectrum", "trace") == pytest.approx(float(hessian.trace()), rel=1, abs=float(exact.abs().sum()))
    assert value("hessian_frobenius") == pytest.approx(float(hessian.norm()), abs=slack)


@functools.cache
def values_of_two_steps(size: int, spec: str, factor: float, dtype: torch.dtype) -> dict[tuple[int, str], float]:
    """What a measure reads along a run whose loss is multiplied by ``factor``, in the unit of the plain loss."""
    tiny = Tiny(size, "regression", factor, dtype)
    optimizer = torch.optim.SGD(tiny.model.parameters(), lr=0.1 / factor)
    monitor = Monitor(tiny.objective, optimizer, every=1, measures=[spec])
    tiny.train(optimizer, monitor, 2)
    scaled = not spec.startswith(("rds", "sharpness_dimension"))
    rows = monitor.table().filter(monitor.table()["value"].is_not_null())
    plain = ("ratio", "size", "exponent", "contraction")
    return {
        (row["step"], row["part"]): row["value"] / (factor if scaled and row["part"] not in plain else 1.0)
        for row in rows.iter_rows(named=True)
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit != 1])
@pytest.mark.parametrize("spec", [*BESIDE, "worst_case_sharpness", "average_sharpness", "directional_smoothness"])
@pytest.mark.parametrize("size", [2, 8])
def test_a_figure_has_the_unit_of_the_loss(size: int, spec: str, unit: float, dtype: torch.dtype) -> None:
    """The same run with its loss in another unit, and the learning rate in the inverse one, gives the same numbers."""
    wanted, found = (values_of_two_steps(size, spec, factor, dtype) for factor in (1.0, unit))
    assert wanted.keys() == found.keys()
    assert wanted
    size_of = max(abs(number) for number in wanted.values())
    for key, number in wanted.items():
        assert found[key] == pytest.approx(number, rel=1e-2, abs=1e-5 * size_of), key


@pytest.mark.parametrize("dtype", DTYPES)
def test_adaptive_optimizers_on_one_parameter(dtype: torch.dtype) -> None:
    tiny = Tiny(1, "regression", dtype=dtype)
    optimizer = torch.optim.Adam(tiny.model.parameters(), lr=0.01)
    specs = ["sharpness", "effective_sharpness", "generalized_sharpness", "ratio", "directional_smoothness"]
    monitor = Monitor(tiny.objective, optimizer, every=1, measures=specs)
    tiny.train(optimizer, monitor, 4)
    (curvature,) = tiny.hessian()[0].tolist()
    state = optimizer.state[next(tiny.model.parameters())]
    # Cohen et al. 2022 (arXiv 2207.14484), eq. 2
    scale = (1 - 0.9**4) * (float((state["exp_avg_sq"] / (1 - 0.999**4)).sqrt()) + 1e-8)
    assert monitor.value("effective_sharpness") == pytest.approx(curvature / scale, rel=1e-5)
    assert monitor.value("generalized_sharpness", "lower") == pytest.approx(curvature / scale, rel=1e-5)


@pytest.mark.parametrize(("k", "size"), [(6, 2), (3, 1), (8, 7)])
def test_more_eigenvalues_than_parameters_are_all_there_are(k: int, size: int) -> None:
    tiny = Tiny(size, "regression")
    objective = tiny.objective
    moment = Moment(0, objective, None, None, objective.parameters(), objective.parameters())
    measure = Sharpness(k=k)
    found = measure.take(moment)
    assert list(found.values) == [str(number + 1) for number in range(size)]
    assert list(found.values.values()) == pytest.approx(torch.linalg.eigvalsh(tiny.hessian()).flip(0).tolist())
    assert f"k={k} of a model with {size} parameter" in found.note
    resumed = Sharpness(k=k)
    resumed.load_state(measure.state())
    assert resumed.take(moment).values == measure.take(moment).values
    assert Sharpness(k=size).take(moment).note == ""
