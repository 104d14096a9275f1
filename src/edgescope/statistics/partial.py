"""Partial rank correlation: the correlation of two columns given further columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import scipy
from jaxtyping import Float, Int

from edgescope.errors import InputError
from edgescope.options import checked, choice, instance_of, optional
from edgescope.statistics.columns import Column, checked_columns
from edgescope.statistics.intervals import Bootstrap, counts
from edgescope.statistics.kendall import RankCorrelation, over_pairs, pair_signs

Products = Callable[[Int[np.ndarray, "B n"]], Float[np.ndarray, "B k k"]]

_SINGULAR = 1e-9  # a smaller eigenvalue of a correlation matrix is rounding


@checked(method=choice("spearman", "kendall"), bootstrap=optional(instance_of(Bootstrap)))
def partial_rank_correlation(
    measure: Column,
    gap: Column,
    given: Mapping[str, Column],
    *,
    method: Literal["spearman", "kendall"] = "spearman",
    bootstrap: Bootstrap | None = None,
) -> RankCorrelation:
    """The rank correlation of a measure and another quantity, such as the generalization gap, given further columns.

    Over a grid of learning rates and batch sizes, a measure that contains them may correlate with the gap for that
    reason alone; given both, only its additional information counts. Ranks do not change under a logarithm: ``given``
    may contain lr or log lr.

    Args:
        measure: n numbers.
        gap: n numbers.
        given: the columns to condition on by name, such as ``{"log lr": ..., "log batch": ...}``.
        method: "spearman": the correlation of mid-ranks after linear regression on the mid-ranks of ``given``;
            "kendall": the same for the signs of all pairs of points (tied pairs are 0), which for one given column is
            Kendall's partial tau-b. It need not be 0 where measure and gap are independent given the columns.
        bootstrap: as for :func:`kendall`. Resamples in which the correlation is not defined are left out.

    Raises :class:`InputError` for columns that are constant, too short, of unequal length or not finite, and where the
    given columns determine the measure, the gap or each other.
    Source: Kendall 1942; Kendall and Stuart 1973, ch. 27 (partial correlation from the inverse of the matrix).
    """
    if not given:
        raise InputError("no columns to condition on", expected="at least one in given=", hint="kendall(measure, gap)")
    named = {"measure": measure, "gap": gap} | {f"given '{name}'": column for name, column in given.items()}
    columns = np.stack(checked_columns(named))
    size = columns.shape[1]
    if size < len(columns) + 1:
        raise InputError(f"{size} points given {len(given)} columns", expected=f"at least {len(columns) + 1} points")
    products = _rank_products(columns) if method == "spearman" else _sign_products(columns)

    whole = products(np.arange(size)[None])
    _refuse_dependent(whole[0], list(named))
    interval = (bootstrap or Bootstrap()).interval(lambda places: _partial(products(places)), size)
    return RankCorrelation(float(_partial(whole)[0]), *interval, size)


def _rank_products(columns: Float[np.ndarray, "k n"]) -> Products:
    def products(places: np.ndarray) -> np.ndarray:
        ranks = scipy.stats.rankdata(columns[:, places], axis=-1)
        ranks -= ranks.mean(-1, keepdims=True)
        return np.einsum("kbn,lbn->bkl", ranks, ranks)

    return products


def _sign_products(columns: Float[np.ndarray, "k n"]) -> Products:
    signs = [pair_signs(column) for column in columns]

    def products(places: np.ndarray) -> np.ndarray:
        drawn = counts(places, columns.shape[1])
        return np.stack([np.stack([over_pairs(a * b, drawn) for b in signs], -1) for a in signs], -2)

    return products


def _correlations(products: Float[np.ndarray, "B k k"]) -> Float[np.ndarray, "B k k"]:
    scale = np.sqrt(np.einsum("bkk->bk", products))
    with np.errstate(invalid="ignore", divide="ignore"):
        return products / scale[:, :, None] / scale[:, None, :]


def _refuse_dependent(products: Float[np.ndarray, "k k"], names: list[str]) -> None:
    values, vectors = np.linalg.eigh(_correlations(products[None])[0])
    if values[0] <= _SINGULAR:
        involved = [name for name, share in zip(names, vectors[:, 0], strict=True) if abs(share) > 1e-4]
        raise InputError(
            f"the ranks of {', '.join(involved)} determine each other",
            expected="columns none of which follows from the others",
        )


def _partial(products: Float[np.ndarray, "B k k"]) -> Float[np.ndarray, " B"]:
    """The correlation of the first two columns given the others; NaN where one follows from the others."""
    matrices = _correlations(products)
    regular = np.isfinite(matrices).all((1, 2))
    regular[regular] = np.linalg.eigvalsh(matrices[regular])[:, 0] > _SINGULAR
    found = np.full(len(matrices), np.nan)
    inverse = np.linalg.inv(matrices[regular])
    found[regular] = -inverse[:, 0, 1] / np.sqrt(inverse[:, 0, 0] * inverse[:, 1, 1])
    return found
