"""Replicas of a simulation in several threads, each with its own random stream."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from edgescope.extras import load
from edgescope.theory.arguments import whole_number


def over_threads(
    simulate: Callable[[int, np.random.Generator], None], replicas: int, seed: int, threads: int | None = None
) -> None:
    """Call ``simulate(replica, stream)`` for every replica, in ``threads`` threads (by default numba's setting).

    The streams are spawned from ``seed``, one for each replica, so that the results do not depend on the number of
    threads. Compiled code must release the interpreter lock (``nogil=True``) for threads to make it faster.
    """
    workers = threads_of_numba() if threads is None else whole_number(threads, "threads", 1)
    seed = whole_number(seed, "seed", 0)
    streams = [np.random.Generator(np.random.PCG64(child)) for child in np.random.SeedSequence(seed).spawn(replicas)]
    if workers == 1:
        for replica, stream in enumerate(streams):
            simulate(replica, stream)
        return
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(simulate, replica, stream) for replica, stream in enumerate(streams)]:
            done.result()


def threads_of_numba() -> int:
    """Numba's setting; that of torch stays as it is.

    The first time that it is asked for, Numba starts its own threads. Where these are OpenMP's, as torch's are, their
    number becomes that of torch, too.
    """
    before = torch.get_num_threads()
    try:
        return int(load("numba").get_num_threads())
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
