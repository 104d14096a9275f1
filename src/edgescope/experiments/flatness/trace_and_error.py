"""Traces of the Hessian and test errors of all trained networks, by architecture and of all architectures together."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from edgescope.experiments.flatness.seed_runs import ARCHITECTURES, TITLES, seed_runs
from edgescope.experiments.selection import Item
from edgescope.experiments.study_run import Runs

TraceAndError = tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]
"""The trace, or the trace over the least one, and the test error of every network that has fitted its samples."""


def trace_and_error(runs: Runs) -> list[Item[TraceAndError]]:
    """Of each architecture its traces, and of all together the traces over the least ones."""
    fitted = [item.value for item in seed_runs(network=ARCHITECTURES)(runs) if not item.value.not_fitted]
    items = []
    for name in ARCHITECTURES:
        if of := [run for run in fitted if run.run.tags["network"] == name]:
            traces, errors = (np.concatenate([run.last(m) for run in of]) for m in ("trace", "test_error"))
            items.append(Item(TITLES[name], (traces, errors), {"network": name}))
    if fitted:
        excess = np.concatenate([run.excess for run in fitted])
        every = (excess, np.concatenate([run.last("test_error") for run in fitted]))
        items.append(Item("all four, trace over least", every))
    return items
