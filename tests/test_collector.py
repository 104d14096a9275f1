"""Modules are loaded without searches of the garbage collector, which is afterwards as it was before."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgescope.collector import collector_paused

SOURCES = Path(__file__).parent.parent / "src"

LOADING = """
import gc

searches = []
gc.callbacks.append(lambda phase, information: searches.append(phase))
import edgescope as es

before = searches.count("start")
es.Objective
print(searches.count("start") - before, gc.isenabled())
"""


@pytest.mark.parametrize("collecting", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_the_collector_is_afterwards_as_it_was(collecting: bool, fails: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        try:
            with collector_paused():
                assert not gc.isenabled()
                if fails:
                    raise KeyError
        except KeyError:
            assert fails
        assert gc.isenabled() == collecting
    finally:
        (gc.enable if before else gc.disable)()


def test_names_of_the_package_are_loaded_without_a_search() -> None:
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    searches, collecting = done.stdout.split()
    assert int(searches) <= 1  # the one that is due when the collector goes on; else they are hundreds
    assert collecting == "True"
