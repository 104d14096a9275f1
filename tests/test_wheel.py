"""The wheel holds what a bare machine needs: the packed images with their licence, and the report's page and style."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import edgescope

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("dist")), versions=["standard"])
    return zipfile.ZipFile(wheel).namelist()


@pytest.mark.parametrize(
    "name",
    [
        "edgescope/cli/listing.json",
        "edgescope/data/files/fashion_5k.npz",
        "edgescope/data/files/LICENSE.fashion-mnist",
        "edgescope/report/report.html.j2",
        "edgescope/report/report_parts.html.j2",
        "edgescope/report/report.css",
        "edgescope/report/report.js",
        "edgescope/__init__.pyi",
        "edgescope/py.typed",
    ],
)
def test_the_wheel_contains(files: list[str], name: str) -> None:
    assert name in files


def test_the_wheel_contains_nothing_but_the_package(files: list[str]) -> None:
    assert {name.split("/")[0] for name in files} == {"edgescope", f"edgescope-{edgescope.__version__}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in files)
