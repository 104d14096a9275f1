"""Two processes of a test that work together."""

from __future__ import annotations

from pathlib import Path

from warm_process import WarmProcess

TOGETHER = """
import sys, datetime, json, warnings
import torch, torch.distributed as distributed
from torch import nn
import edgescope as es

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
warnings.simplefilter("ignore")
distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
)
"""
"""How the program of a worker begins that has joined the other one; it has ``rank`` and ``folder``."""


def run_two_workers(python: WarmProcess, program: str, folder: Path) -> None:
    """Run ``program`` as two processes with the arguments RANK FOLDER; an error where one of them fails."""
    path = folder / "worker.py"
    path.write_text(program)
    python.run("pair", str(folder), str(path))
