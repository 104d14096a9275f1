"""Saving and restoring the states of all random generators that training uses."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def rng_state() -> dict[str, Any]:
    """The states of torch (CPU, and every CUDA device), NumPy's global generator and Python's; for ``pack_state``."""
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(legacy=True),  # noqa: NPY002 (users' loops draw from it)
        "python": random.getstate(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Continue from what :func:`rng_state` gave; CUDA states are used where there are as many devices as then."""
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])
    if torch.cuda.is_available() and torch.cuda.device_count() == len(state.get("cuda", ())):
        torch.cuda.set_rng_state_all(state["cuda"])
