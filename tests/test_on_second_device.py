"""The tests of ``second_device/``, each file in a process of its own.

Torch takes another backend only before other parts of it have been used, which in a process that runs all tests depends
on their order.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = sorted((TESTS / "second_device").glob("test_*.py"))


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[] if path.stem == "test_deferred_checks" else [pytest.mark.slow], id=path.stem)
        for path in FILES
    ],
)
def test_on_the_second_device(path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", str(path)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert len(FILES) == 4
