"""Every warning names a section of the FAQ that is there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from test_docs import anchors

from edgescope.errors import EdgescopeWarning
from edgescope.faq import FAQ, see
from edgescope.notices import KINDS, Notices

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "edgescope").rglob("*.py"))


def ids_in(path: Path) -> set[str]:
    """The ids that a file gives as ``faq=...`` or ``see(...)``, or chooses between in an ``if``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        values: list[ast.expr] = []
        if isinstance(node, ast.keyword) and node.arg == "faq":
            values = [node.value]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "see":
            values = node.args
        elif isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "faq" for t in node.targets):
            values = [node.value]
        for value in values:
            parts = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
            found |= {str(part.value) for part in parts if isinstance(part, ast.Constant)}
    return found


def test_every_id_has_a_section_of_the_page() -> None:
    assert set(FAQ) <= anchors(ROOT / "docs" / "faq.md")


def test_the_ids_in_the_code_are_those_of_the_list() -> None:
    assert set().union(*map(ids_in, SOURCES)) == set(FAQ)


def test_kinds_are_those_of_notices_or_of_warnings_outside_of_runs() -> None:
    assert set(FAQ.values()) == set(KINDS) | {"record", "callback"}


def test_every_warning_of_the_package_names_a_section() -> None:
    """A call of ``warnings.warn`` with an EdgescopeWarning gives a text that ends with :func:`see`, or a notice's."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                text = ast.unparse(node)
                if "EdgescopeWarning" in text:
                    assert "see(" in text or "notice.text" in text, f"{path.name}: {text}"


def test_a_notice_carries_the_id_as_data_and_in_its_text() -> None:
    notices = Notices()
    with pytest.warns(EdgescopeWarning, match=r"try fewer samples \(see faq#failed-measures\)$"):
        notices.give("measure", "it failed", faq="failed-measures", hint="fewer samples")
    (notice,) = notices
    assert notice.faq == "failed-measures"
    assert notice.text.endswith(see("failed-measures"))
    assert notice.finding == "it failed"
