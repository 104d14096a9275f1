"""The code in README and docs runs as printed, and the links between pages lead somewhere.

The python blocks of a page are run from top to bottom, in an empty folder. A block that shows a program of docs/extend
is the text of that program, which is run by itself.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet
from warm_process import WarmProcess

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("[!C]*.md")), ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = sorted((ROOT / "docs" / "extend").glob("*.py"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LONG = ("dimension", "learning_rate", "momentum_study", "phases", "sharpness_figure")
"""Pages and programs that take more than some eight seconds: the names of their files."""
NEEDS = re.compile(r"^<!-- needs: (.*) -->$", re.MULTILINE)
"""Packages that the code of a page takes and that set-up does not install."""
INCLUDED = re.compile(r"^`(extend/\w+\.py)`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")


def with_marks(paths: Iterable[Path]) -> list[ParameterSet]:
    return [pytest.param(path, marks=[pytest.mark.slow] if path.stem in LONG else [], id=path.stem) for path in paths]


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(INCLUDED.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them: lower case, hyphens for spaces, no punctuation."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("page", with_marks(page for page in PAGES if blocks(page)))
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in re.split(", ", "".join(NEEDS.findall(page.read_text(encoding="utf-8")))):
        if package:
            pytest.importorskip(package)
            warnings.simplefilter("ignore")  # what it warns of, this page cannot change
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page.stem}
    for code in blocks(page):
        exec(compile(code, str(page), "exec"), names)


@pytest.mark.parametrize("program", with_marks(PROGRAMS))
def test_a_program_that_extends_the_package_runs(program: Path, tmp_path: Path, users_python: WarmProcess) -> None:
    copy = tmp_path / program.name
    copy.write_bytes(program.read_bytes())
    users_python.run("file", str(tmp_path), str(copy))
    if program.stem == "momentum_study":  # its study is known to the command line, which here reports it once more
        (tmp_path / "momentum-quick" / "report.html").unlink()
        more = ("--module", program.stem, "--out", "momentum-quick", "--resume")
        users_python.run("module", str(tmp_path), "edgescope", "run", "momentum", *more)
        assert (tmp_path / "momentum-quick" / "report.html").exists()


def test_the_page_shows_every_program_as_it_is() -> None:
    shown = dict(INCLUDED.findall((ROOT / "docs" / "extend.md").read_text(encoding="utf-8")))
    assert len(PROGRAMS) == 6
    assert shown == {f"extend/{program.name}": program.read_text(encoding="utf-8") for program in PROGRAMS}, (
        "tools/write_included_files.py writes the programs into the page"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        to = page.parent / target if target else page
        assert to.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(to), f"{page.name} links to {target}#{anchor}"
