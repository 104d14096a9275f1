"""Where and with what a run was made: versions, platform, command line, commit, threads, start time."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import sys
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from edgescope.store.commit import working_commit


def run_info(command: str | None = None) -> dict[str, Any]:
    """What a reader needs to repeat a run, taken from this process; ``command`` is its own command line by default."""
    try:
        version = importlib.metadata.version("edgescope")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree that was never installed
        version = "unknown"
    return {
        "edgescope": version,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "command": shlex.join(sys.argv) if command is None else command,
        "commit": working_commit(),
        "threads": torch.get_num_threads(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
