"""Two processes that train together with a framework measure together, and train as without measuring."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgescope as es

PROGRAM = Path(__file__).parent / "frameworks_in_two_processes.py"
PACKAGES = {"lightning": "lightning", "fabric": "lightning", "transformers": "transformers", "accelerate": "accelerate"}


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGES)
def test_two_processes_measure_together(name: str, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[name])
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [sys.executable, *launch, str(PROGRAM), name, str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1))
    assert first == second
    assert first["same"]
    assert first["steps"] == 8
    assert first["samples"] == {"transformers": 16}.get(name, 32)
    assert "shared by 2 processes" in first["described"]
    with es.Record.open(tmp_path / "record") as record:
        assert record.status == "finished"
        assert record.table().filter(measure="ratio")["value"].to_list() == first["ratios"]
