"""How tightly generalized sharpness is bracketed, and at what price: the upper end over the lower one on matrices of 50
to 2,000 dimensions and along a network's training, and the lower end over the published estimator's at equal products.

Everything is a ratio; the tables go to ``docs/benchmarks.md``. ``--quick`` takes smaller problems and writes nothing.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from curvature import write
from problems import Problem
from threadpoolctl import threadpool_limits
from torch import Tensor

import edgescope as es
from edgescope.data import DATA
from edgescope.linalg import Operator
from edgescope.losses import half_mse
from edgescope.models import MODELS

KINDS = ("random", "low rank and noise", "like a network")
NOTE = (
    "Medians over three matrices of each kind and size, which are float64; up to 128 dimensions the matrix is formed."
)
STARTS, STEPS = 5, 50  # of the published estimator


def matrix(kind: str, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(size, size, generator=generator, dtype=torch.float64) / size**0.5
    noise = (noise + noise.T) / 2
    if kind == "random":
        return noise
    factors = torch.randn(size, 5, generator=generator, dtype=torch.float64) / size**0.5
    if kind == "low rank and noise":
        return 4 * factors @ factors.T + noise
    bulk = torch.randn(size, generator=generator, dtype=torch.float64).abs()
    rows = torch.exp(torch.randn(size, generator=generator, dtype=torch.float64))  # coordinates of unequal scale
    return rows[:, None] * (20 * factors @ factors.T + 0.3 * noise) * rows + torch.diag(0.1 * bulk)


def matrices(quick: bool) -> list[str]:
    """Products alone above 128 dimensions; below, the matrix is formed from them."""
    lines = [
        "| Linf, matrices | dimensions | upper over lower, median | worst | lower over Frank-Wolfe's "
        "at equal products, median | least | products below | products above |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        for size in (50, 200) if quick else (50, 200, 500, 2000):
            gaps, gains, below, above = [], [], [], []
            for seed in range(2 if quick else 3):
                dense = matrix(kind, size, seed)
                operator = Operator(size, lambda block, dense=dense: dense @ block)
                found = es.generalized_sharpness(operator, "linf", seed=seed)
                starts = max(1, round(found.lower_products / (STEPS + 1)))
                plain = es.generalized_sharpness(
                    operator,
                    "linf",
                    restarts=starts,
                    iterations=STEPS,
                    seed=seed,
                    method="frank-wolfe",
                    certificate=False,
                )
                gaps.append(found.upper / found.lower)
                gains.append(found.lower / plain.lower)
                below.append(found.lower_products)
                above.append(found.upper_products)
            ratios = (
                f"{statistics.median(gaps):.2f} | {max(gaps):.2f} | {statistics.median(gains):.3f} | {min(gains):.3f}"
            )
            spent = f"{statistics.median(below):.0f} | {statistics.median(above):.0f}"
            lines.append(f"| {kind} | {size:,} | {ratios} | {spent} |")
    return lines


def along_training(quick: bool) -> list[str]:
    """The first measurement, and later ones that start from it, at the edge of stability."""
    data = DATA.build("fashion-5k", train=60 if quick else 300, pool=2).load()
    model = MODELS.build("mlp:widths=100x100").build(data.input_shape, data.classes, seed=0)
    problem = Problem("MLP 196-100-100-10, 300 samples", model, half_mse, data.inputs, data.targets)
    lr = 0.3
    problem.descend(lr, 60)
    objective = problem.objective(threads=None, path="kept")
    lines = [
        f"| {problem.name}, learning rate {lr}, every 5 steps | upper over lower: first | later, median | worst | "
        "products: first | later, most | Frank-Wolfe, 5 starts of 50 steps, over the later lower end (255 products) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in ("linf", "spectral", "blocks"):
        found = first = es.generalized_sharpness(objective, name)
        gaps, spent = [], []
        for _ in range(2 if quick else 5):
            problem.descend(lr, 5)
            found = es.generalized_sharpness(objective, name, start=found, gradient=objective.gradient())
            gaps.append(found.upper / found.lower)
            spent.append(found.products)
        plain = es.generalized_sharpness(
            objective, name, restarts=STARTS, iterations=STEPS, method="frank-wolfe", certificate=False
        )
        lines.append(
            f"| {name} | {first.upper / first.lower:.2f} | {statistics.median(gaps):.2f} | {max(gaps):.2f} | "
            f"{first.products} | {max(spent)} | {plain.lower / found.lower:.3f} |"
        )
    return lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="small problems, nothing written")
    given = options.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    lines = ["## (gs) Generalized sharpness: how tight, at what price", "", NOTE]
    for section in (matrices, along_training):
        part = ["", *section(given.quick)]
        print("\n".join(part), flush=True)
        lines += part
    if not given.quick:
        write("gs", lines)


if __name__ == "__main__":
    main()
