"""Files for people who take part: they can be read, and name what is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == PROJECT["version"]
    assert cited["license"] == PROJECT["license"]
    assert all({"title", "authors", "year", "url"} <= set(reference) for reference in cited["references"])


@pytest.mark.parametrize(
    "form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_forms_can_be_read(form: Path) -> None:
    found = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.stem != "config":
        assert {"name", "description", "body"} <= set(found)
        assert all({"type", "id", "attributes"} <= set(field) for field in found["body"])


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_install_extras_that_there_are(workflow: Path) -> None:
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    extras = {
        name for command in commands for found in re.findall(r"\[([a-z,]+)\]", command) for name in found.split(",")
    }
    assert extras <= set(PROJECT["optional-dependencies"])
    assert all(uses.count("@") == 1 for job in jobs.values() for step in job["steps"] if (uses := step.get("uses")))


def test_the_versions_of_python_that_are_tested_are_those_that_are_admitted() -> None:
    matrix = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))["jobs"][
        "versions"
    ]
    assert matrix["strategy"]["matrix"]["python"][0] == PROJECT["requires-python"].removeprefix(">=")


@pytest.mark.parametrize("target", re.findall(r"^make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))
def test_targets_of_make_are_there(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
