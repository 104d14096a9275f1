"""Saving and restoring the states of all random generators that training uses."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from edgescope.generators import accelerator_states, set_accelerator_states


def rng_state() -> dict[str, Any]:
    """The states of torch (CPU, and every accelerator), NumPy's global generator and Python's; for ``pack_state``."""
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(legacy=True),  # noqa: NPY002 (users' loops draw from it)
        "python": random.getstate(),
    }
    return state | accelerator_states()


def set_rng_state(state: dict[str, Any]) -> None:
    """Continue from what :func:`rng_state` gave; those of accelerators where there are as many as then."""
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])
    set_accelerator_states(state)
