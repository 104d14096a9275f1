"""The files that set-up installs from name every package in one version, with the hashes of its files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

HOME = Path(__file__).parent.parent
LOCKS = [
    "requirements.lock",
    "requirements-cpu.lock",
    "requirements-cuda.lock",
    "tests/oracle.lock",
    "tests/frameworks.lock",
    "benchmarks/requirements.lock",
    "docs/requirements.lock",
]


def locked(name: str) -> dict[str, tuple[str, set[str]]]:
    """Version and hashes of each package in a lock."""
    text = re.sub(r"^#.*\n", "", (HOME / name).read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r"([\w.-]+)==(\S+)( ;[^#]*?)?((?:\s+--hash=sha256:[0-9a-f]{64})+)\s*", line)
        assert match, f"{name}: {line[:80]}"
        package = canonical(match[1])
        assert package not in found or match[3]  # two versions only where each says for which Python
        found[package] = match[2], set(match[4].split())
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_one_version_and_hashes(name: str) -> None:
    assert locked(name)


LARGE = ("docs", "lightning", "transformers", "wandb", "mlflow", "trackio")
"""Extras for the site, frameworks and trackers, which set-up does not install."""


def test_all_that_the_project_needs_is_locked() -> None:
    project = tomllib.loads((HOME / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    needed = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    needed += [need for extra in extras if extra not in LARGE for need in extras[extra]]
    names = {canonical(re.split(r"[\[><=;~! ]", need)[0]) for need in needed} - {"edgescope"}
    assert names <= {*locked("requirements.lock"), *locked("tests/oracle.lock")}


def test_the_build_of_torch_for_cpus_is_one_that_the_lock_admits() -> None:
    version, hashes = locked("requirements-cpu.lock")["torch"]
    whole = locked("requirements.lock")["torch"]
    assert version.partition("+")[0] == whole[0]
    assert hashes < whole[1]


def test_set_up_installs_nothing_without_its_hash() -> None:
    text = (HOME / "Makefile").read_text()
    assert re.search(r"^FROM_LOCK := -m pip install .* --require-hashes --no-deps$", text, flags=re.MULTILINE)
    assert re.search(r"^LOCKED := \$\(BIN\)/python \$\(FROM_LOCK\)$", text, flags=re.MULTILINE)
    for line in text.splitlines():
        if line.startswith("\t") and " -r " in line:
            assert "$(LOCKED)" in line or "$(FROM_LOCK)" in line
        if line.startswith("\t") and "pip install" in line:
            assert line.endswith("--no-deps --no-build-isolation -e .")  # this project itself
    for name in LOCKS:
        assert f"-r {name}" in text
