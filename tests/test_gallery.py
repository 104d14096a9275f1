"""The examples run and draw their pictures, and the page of the gallery shows them as they are."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOL = runpy.run_path(str(ROOT / "tools" / "gallery.py"))
PROGRAMS = {program.stem: program for program in sorted((ROOT / "examples").glob("*.py"))}
QUICK = {"headroom", "oscillating_direction", "muon_adamw", "find_lr", "pinn", "sign_descent"}
SLOW = set(PROGRAMS) - QUICK
LARGEST = 60_000  # bytes of a picture on the page
LINES = 39


def marked(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name


@pytest.mark.parametrize("name", [marked(name) for name in PROGRAMS])
def test_an_example_draws_its_picture_and_says_what_it_shows(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    if name in SLOW:  # without checks of annotations, which take longer than the examples
        printed = request.getfixturevalue("users_python").run("file", str(tmp_path), str(PROGRAMS[name]))
    else:
        monkeypatch.chdir(tmp_path)
        runpy.run_path(str(PROGRAMS[name]), run_name="__main__")
        printed = capsys.readouterr().out
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / f"{name}.svg").stat().st_size > 5_000
    assert len(printed.split()) > 5
    assert re.search(r"\d", printed)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))
def test_an_example_is_short_and_opens_as_a_notebook(program: Path) -> None:
    text = program.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES
    _, sentences = TOOL["header_of"](program)
    assert len(re.findall(r"[.:](?:\s|$)", sentences)) in (2, 3), sentences
    cells = re.split(r"^# %%.*\n", text, flags=re.MULTILINE)[1:]
    assert len(cells) >= 2
    assert all(line.startswith("#") for line in cells[0].splitlines() if line)
    for cell in cells[1:]:
        compile(cell, str(program), "exec")


def test_the_page_shows_every_example_as_it_is() -> None:
    assert set(TOOL["ORDER"]) == set(PROGRAMS)
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert page == TOOL["page"](), "tools/gallery.py --page writes the page"
    pictures = sorted((ROOT / "docs" / "images" / "gallery").glob("*"))
    assert {picture.stem for picture in pictures} == set(PROGRAMS)
    assert [picture.name for picture in pictures if picture.stat().st_size > LARGEST] == []
