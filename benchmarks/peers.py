"""The six leading eigenpairs by Edgescope and by its peers, behind one face: values and vectors out."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from problems import Problem
from scipy.sparse.linalg import eigsh

import edgescope as es

TOLERANCE = 1e-3
Pairs = tuple[np.ndarray, torch.Tensor]


def edgescope(problem: Problem, k: int) -> Pairs:
    pairs = es.top_eigenpairs(problem.objective(threads=None, path="kept"), k=k, tol=TOLERANCE)
    return pairs.values.numpy(), pairs.vectors


def curvlinops(problem: Problem, k: int) -> Pairs:
    from curvlinops import HessianLinearOperator

    parameters = [p for p in problem.model.parameters() if p.requires_grad]
    operator = HessianLinearOperator(
        problem.model, problem.criterion, parameters, [(problem.inputs, problem.targets)], check_deterministic=False
    )
    values, vectors = eigsh(operator.to_scipy(), k=k, which="LA", tol=TOLERANCE)
    order = np.argsort(values)[::-1]
    return values[order], torch.from_numpy(np.ascontiguousarray(vectors[:, order]))


def hessian_eigenthings(problem: Problem, k: int) -> Pairs:
    from hessian_eigenthings import HessianOperator, lanczos, supervised_loss

    operator = HessianOperator(problem.model, [(problem.inputs, problem.targets)], supervised_loss(problem.criterion))
    found = lanczos(operator, k=k, max_iter=60, tol=TOLERANCE, which="LA", seed=0)
    order = found.eigenvalues.argsort(descending=True)
    vectors = found.eigenvectors
    vectors = vectors.T if vectors.shape[0] == k else vectors
    return found.eigenvalues[order].double().numpy(), vectors[:, order]


def pyhessian(problem: Problem, k: int) -> Pairs:
    from pyhessian import hessian

    # It multiplies in training mode and through the graph of one loss, as its documentation shows.
    operator = hessian(problem.model, problem.criterion, data=(problem.inputs, problem.targets), cuda=False)
    values, vectors = operator.eigenvalues(maxIter=100, tol=TOLERANCE, top_n=k)
    columns = torch.stack([torch.cat([part.reshape(-1) for part in vector]) for vector in vectors], dim=1)
    problem.model.zero_grad(set_to_none=True)
    return np.array(values), columns.detach()


METHODS: dict[str, Callable[[Problem, int], Pairs]] = {
    "Edgescope": edgescope,
    "curvlinops + eigsh": curvlinops,
    "hessian-eigenthings": hessian_eigenthings,
    "PyHessian": pyhessian,
}


def quality(problem: Problem, pairs: Pairs, reference: np.ndarray) -> tuple[float, float]:
    """Worst relative residual and worst relative error of the values, by float64 products against ``reference``."""
    values, vectors = pairs
    objective = problem.objective(dtype=torch.float64, threads=None, path="kept")
    vectors = vectors.double()
    vectors = vectors / vectors.norm(dim=0)
    values_tensor = torch.from_numpy(np.asarray(values, dtype=np.float64))
    with warnings.catch_warnings():
        residuals = (objective.hvp(vectors) - vectors * values_tensor).norm(dim=0) / values_tensor.abs()
    return float(residuals.max()), float(np.max(np.abs(values - reference) / np.abs(reference)))
