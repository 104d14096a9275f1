"""Many replicas of a simulation over threads: each with a random stream of its own, whatever the number of threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from edgescope.theory.arguments import whole_number


def over_threads(
    simulate: Callable[[int, np.random.Generator], None], replicas: int, seed: int, threads: int | None = None
) -> None:
    """Call ``simulate(replica, stream)`` for every replica, over ``threads`` (numba's setting by default).

    Streams are spawned from ``seed``, one a replica, so that results do not depend on the number of threads; compiled
    code must release the lock (``nogil=True``) for threads to help.
    """
    workers = numba.get_num_threads() if threads is None else whole_number(threads, "threads", 1)
    seed = whole_number(seed, "seed", 0)
    streams = [np.random.Generator(np.random.PCG64(child)) for child in np.random.SeedSequence(seed).spawn(replicas)]
    if workers == 1:
        for replica, stream in enumerate(streams):
            simulate(replica, stream)
        return
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(simulate, replica, stream) for replica, stream in enumerate(streams)]:
            done.result()
