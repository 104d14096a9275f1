"""What a step of the central flow costs, beside what the published method implies.

A tanh network learns 200 digits by gradient descent; the flow is followed from its start, in float64. In windows of 20
steps, one for each number of critical directions that are met, gradients, products and seconds are counted. Of the
published method (Cohen, Damian et al., arXiv 2410.24206: four substeps in a step, eigenpairs by LOBPCG to 1e-10 once in
a step) the eigenpairs are computed at the same weights, each search started from the vectors of the last one, and the
rest is counted from its equations. The table goes to ``docs/benchmarks.md``; ``--quick`` takes few steps, to see that
it runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse.linalg
import torch
from curvature import write
from torch import Tensor

import edgescope as es
from edgescope.losses import half_mse

LR = 0.4
WINDOW = 20
SUBSTEPS = 4
"""Of the published method in a step."""


@dataclass
class Window:
    """Costs of the steps with one number of critical directions."""

    critical: int
    first: int
    gradients: list[float]
    products: list[float]
    seconds: list[float]
    published_products: list[float]


def network() -> tuple[torch.nn.Module, tuple[Tensor, Tensor]]:
    data = es.DATA.build("digits").load().subset(200, 300)
    model = es.MODELS.build("mlp:widths=32x32,activation=tanh").build((64,), data.classes, seed=0).double()
    return model, (data.inputs.flatten(1).double(), data.targets)


class Lobpcg:
    """Eigenpairs to 1e-10 by SciPy, each search started from the vectors of the last one; products are counted."""

    def __init__(self, objective: es.Objective) -> None:
        self.objective = objective
        self.vectors: np.ndarray | None = None

    def products(self, w: Tensor, count: int) -> int:
        products = 0
        operator = self.objective.operator(w)

        def multiply(block: np.ndarray) -> np.ndarray:
            nonlocal products
            products += block.shape[1]
            found: np.ndarray = (operator @ torch.from_numpy(block)).numpy()
            return found

        size = self.objective.size
        start = np.random.default_rng(0).standard_normal((size, count))
        if self.vectors is not None:
            shared = min(count, self.vectors.shape[1])
            start[:, :shared] = self.vectors[:, :shared]
        linear = scipy.sparse.linalg.LinearOperator(
            (size, size), matvec=lambda v: multiply(v.reshape(-1, 1))[:, 0], matmat=multiply, dtype=np.float64
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where rounding keeps residuals above 1e-10
            _, self.vectors = scipy.sparse.linalg.lobpcg(linear, start, largest=True, tol=1e-10, maxiter=200)
        return products


def measured(steps: int, window: int) -> tuple[list[Window], float]:
    """The windows, and the seconds of one gradient."""
    model, data = network()
    objective = es.Objective(model, es.supervised(half_mse), data, threads=1)
    flow = es.CentralFlow(objective, torch.optim.SGD(model.parameters(), lr=LR))
    other = Lobpcg(es.Objective(model, es.supervised(half_mse), data, threads=1))
    windows: dict[int, Window] = {}
    for step in range(1, steps + 1):
        began = time.perf_counter()
        found = flow.step()
        seconds = time.perf_counter() - began
        k = found.covariance.shape[0]
        here = windows.setdefault(k, Window(k, step, [], [], [], []))
        if len(here.seconds) < window:
            here.gradients.append(found.cost.gradients)
            here.products.append(found.cost.products)
            here.seconds.append(seconds)
            here.published_products.append(other.products(flow.weights, k + 1))
    times = []
    for i in range(50):
        w = flow.weights * (1 + 1e-9 * i)
        began = time.perf_counter()
        objective.gradient(w)
        times.append(time.perf_counter() - began)
    return [windows[k] for k in sorted(windows)], statistics.median(times)


def third_derivatives(k: int) -> int:
    """Gradients of entries of the Hessian in a step of the published method."""
    return SUBSTEPS * k * (k + 1) // 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few steps, and nothing is written")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    windows, gradient = measured(*((3, 3) if quick else (900, WINDOW)))
    lines = [
        "## (cf) The cost of a step of the central flow",
        "",
        f"A tanh network of 3,466 parameters on 200 digits, learning rate {LR:g}; means over {WINDOW} steps with",
        "k critical directions, from the first such step on. Edgescope: two substeps with the correction,",
        "eigenpairs to residuals of 1e-3, third derivatives by differences of gradients. The published method",
        "(arXiv 2410.24206), as its equations imply: four substeps, one search by LOBPCG to 1e-10 (started from",
        "the last vectors, k+1 pairs at the same weights), and in every substep a gradient and k(k+1)/2 third",
        "derivatives by automatic differentiation. The time of its conic solver is in (cs).",
        "",
        "| k | from step | Edgescope: gradients | products | of one gradient's time | published: gradients | products"
        " (LOBPCG) | third derivatives |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in windows:
        mean = statistics.fmean
        lines.append(
            f"| {each.critical} | {each.first} | {mean(each.gradients):.1f} | {mean(each.products):.1f} |"
            f" {statistics.median(each.seconds) / gradient:.0f} | {SUBSTEPS} |"
            f" {mean(each.published_products[1:] or each.published_products):.0f} |"
            f" {third_derivatives(each.critical)} |"
        )
    print("\n".join(lines))
    if not quick:
        write("cf", lines, "float64")


if __name__ == "__main__":
    main()
