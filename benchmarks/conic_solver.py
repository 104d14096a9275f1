"""What the covariance of an oscillation costs: our solver beside conic solvers, on problems like those of a flow.

The published flow (Cohen, Damian et al., arXiv 2410.24206) poses the complementarity problem to CVXPY, which calls
CVXOPT. That is timed, and CVXOPT and Clarabel called directly, each at its own tolerances, in turn on the same random
problems, on one thread, in time of the processor. The table goes to ``docs/benchmarks.md``; ``--quick`` takes few
problems, to see that it runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import clarabel
import cvxopt
import cvxpy
import numpy as np
import scipy.sparse
import torch
from curvature import write
from threadpoolctl import threadpool_limits

from edgescope.linalg.complementarity import complementarity, pairs_of, to_symmetric, to_vector, weights_of

SIZES, PROBLEMS = (1, 2, 3, 4, 6, 8), 20
Solver = Callable[[np.ndarray, np.ndarray], np.ndarray]


def problem(seed: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """A with some negative eigenvalues, and B as inner products of gradients of very different lengths."""
    draw = np.random.default_rng((seed, k))
    m = k * (k + 1) // 2
    gradients = draw.standard_normal((10 * m, m)) * np.exp(draw.standard_normal(m))
    a = draw.standard_normal((k, k))
    return (a + a.T) / 2 - np.eye(k), gradients.T @ gradients / (10 * m)


def ours(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return complementarity(a, b).X.numpy()


def with_cvxpy(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """min |R v(X)|^2/2 + <A, X> over positive semidefinite X, with R'R = B."""
    k = len(a)
    x = cvxpy.Variable((k, k), PSD=True)
    rows, columns = pairs_of(k)
    entries = cvxpy.multiply(weights_of(k).numpy(), cvxpy.hstack([x[i, j] for i, j in zip(rows, columns, strict=True)]))
    root = np.linalg.cholesky(b).T
    cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(root @ entries) / 2 + cvxpy.trace(a @ x))).solve(solver="CVXOPT")
    return np.asarray(x.value)


def with_cvxopt(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    k = len(a)
    m = k * (k + 1) // 2
    cone = np.stack([-to_symmetric(unit, k).reshape(-1) for unit in np.eye(m)], axis=1)
    given = [cvxopt.matrix(part) for part in (b, to_vector(a), cone, np.zeros(k * k))]
    found = cvxopt.solvers.coneqp(*given, dims={"l": 0, "q": [], "s": [k]}, options={"show_progress": False})
    return to_symmetric(np.array(found["x"])[:, 0], k)


def with_clarabel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    k = len(a)
    m = k * (k + 1) // 2
    rows, columns = pairs_of(k)
    order = np.lexsort((rows, columns))  # its vectors have the upper triangle column by column
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_threads = False, 1
    solver = clarabel.DefaultSolver(
        scipy.sparse.csc_matrix(np.triu(b)), to_vector(a), -scipy.sparse.eye(m, format="csc")[order], np.zeros(m),
        [clarabel.PSDTriangleConeT(k)], settings,
    )  # fmt: skip
    return to_symmetric(np.array(solver.solve().x), k)


SOLVERS: dict[str, Solver] = {
    "Edgescope": ours,
    "CVXPY with CVXOPT": with_cvxpy,
    "CVXOPT": with_cvxopt,
    "Clarabel": with_clarabel,
}


def residual(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """The largest entry of X - (X - A - B[X])_+, over that of A, where B is scaled to 1."""
    unit, size = float(np.abs(a).max()), float(np.abs(b).max())
    x, a, b = x * size / unit, a / unit, b / size
    values, vectors = np.linalg.eigh(x - a - to_symmetric(b @ to_vector(x), len(a)))
    return float(np.abs(x - (vectors * values.clip(min=0)) @ vectors.T).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few problems, and nothing is written")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    sizes, count = ((2, 3), 2) if quick else (SIZES, PROBLEMS)
    lines = [
        "## (cs) The covariance of the oscillation: conic solvers",
        "",
        f"Milliseconds for X with k critical directions, median and largest of {count} random problems, and the",
        "largest natural residual (of A and B with a largest entry of 1). The published flow calls CVXPY with CVXOPT",
        "once a substep; CVXOPT and Clarabel are also called directly. All have their own default tolerances, and",
        "Edgescope's is 1e-9. Time of the processor. Target of Edgescope: below 2 ms for up to 8 directions.",
        "",
        "| k | " + " | ".join(f"{name}, ms | residual" for name in SOLVERS) + " |",
        "|" + "---|" * (1 + 2 * len(SOLVERS)),
    ]
    with threadpool_limits(1):
        for k in sizes:
            seconds: dict[str, list[float]] = {name: [] for name in SOLVERS}
            worst = dict.fromkeys(SOLVERS, 0.0)
            for number in range(-1, count):  # the first one warms up
                a, b = problem(number + 1, k)
                for name, solver in SOLVERS.items():
                    began = time.process_time()
                    x = solver(a, b)
                    if number >= 0:
                        seconds[name].append(time.process_time() - began)
                        worst[name] = max(worst[name], residual(x, a, b))
            cells = [
                f"{1e3 * statistics.median(each):.3g}, {1e3 * max(each):.3g} | {worst[name]:.0e}"
                for name, each in seconds.items()
            ]
            lines.append(f"| {k} | {' | '.join(cells)} |")
    print("\n".join(lines))
    if not quick:
        write("cs", lines, "float64")


if __name__ == "__main__":
    main()
