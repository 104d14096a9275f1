"""Simulations in several threads leave torch's number of threads alone."""

from __future__ import annotations

from pathlib import Path

from warm_process import WarmProcess

SIMULATED = """
import numba
import torch
from edgescope.simulate.replicas import over_threads, threads_of_numba

torch.set_num_threads(numba.config.NUMBA_NUM_THREADS + 1)
done = []
over_threads(lambda replica, stream: done.append(replica), 3, seed=0)
assert sorted(done) == [0, 1, 2]
assert threads_of_numba() == numba.config.NUMBA_NUM_THREADS
print(torch.get_num_threads() - numba.config.NUMBA_NUM_THREADS)
"""


def test_simulations_leave_the_threads_of_torch_as_they_are(users_python: WarmProcess, tmp_path: Path) -> None:
    """In a process of its own, since Numba sets them once: when it starts its threads."""
    program = tmp_path / "simulated.py"
    program.write_text(SIMULATED)
    assert users_python.run("file", str(tmp_path), str(program)).split() == ["1"]
