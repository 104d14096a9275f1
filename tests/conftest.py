"""What every test can rely on, however the suite was started."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from type_checks import CALLS, check_annotations
from warm_process import WarmProcess, programs

# Before anybody imports torch: several test processes share the cores, and a process with a pool of threads cannot be
# forked safely.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

# Before anybody imports edgescope: every process that runs tests checks the annotations.
check_annotations()

# A shell starts what runs in its background with Ctrl-C ignored, and everything below would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test is timed: a busy machine is no fault of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


HERE = Path(__file__).parent
SLOW = {line for line in (HERE / "slow_tests.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")}


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what `-m` does not select
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the cases of long functions as slow; where a function has several, its first one stays as it is."""
    functions: dict[str, list[pytest.Item]] = {}
    for item in items:
        name = f"{item.path.relative_to(HERE).as_posix()}::{item.nodeid.partition('::')[2].partition('[')[0]}"
        if name in SLOW:
            functions.setdefault(name, []).append(item)
    for cases in functions.values():
        for case in cases[min(1, len(cases) - 1) :]:
            case.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def first_calls_are_checked() -> None:
    """Every test checks its own first calls of a function, whatever ran before it."""
    CALLS.clear()


def pytest_collection_finish() -> None:
    """Leave what is there from now on out of the collections of garbage, which else go through a million objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """No test leaves torch with more threads: on a busy machine all later ones would take up to fifty times as long."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        number = torch.get_num_threads()
        torch.set_num_threads(1)
        pytest.fail(f"torch is left with {number} threads")


COMMITS: dict[Path, str | None] = {}


@pytest.fixture(autouse=True)
def commit_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every record names the commit of the working directory, for which three processes of git are started.

    Where that is the directory of the project they are started once for all tests.
    """
    info = sys.modules.get("edgescope.store.info")
    if info is None:
        return
    find = info.working_commit

    def found() -> str | None:
        here = Path.cwd()
        if here != HERE.parent:
            return find()
        if here not in COMMITS:
            COMMITS[here] = find()
        return COMMITS[here]

    monkeypatch.setattr(info, "working_commit", found)


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    """No test depends on what an objective of another one has found out."""
    remembered = sys.modules.get("edgescope.objective.remembered")
    if remembered is not None:
        remembered.forget_choices()


@pytest.fixture(scope="session")
def users_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmProcess]:
    """Runs programs as a user would: see :func:`warm_process.programs`."""
    with programs(tmp_path_factory.mktemp("programs")) as made:
        yield made
