"""The layout of the package: imports run downward as docs/design.md lists its layers; length of files, class names.

Every import counts, those inside functions and under ``TYPE_CHECKING`` too: what a file knows of is what it names.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "edgescope"
LONGEST = 400
"""Lines of a file at most."""
ROOT_NAMES = {"__version__"}
"""What a file may import from the package itself, which stands above all layers."""
SAME_NAMES = {"EdgescopeCallback": {"edgescope.monitor.lightning", "edgescope.monitor.transformers"}}
"""Classes of one name, by their modules. A user meets one of these two, which do the same for one framework each; and
Lightning keeps the state of a callback in its checkpoints under the name of the class, so that another name would lose
the monitors of runs under way."""


def name_of(path: Path, package: Path = PACKAGE) -> str:
    """The dotted name of a module."""
    parts = ("edgescope", *path.relative_to(package).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(text: str, module: str, known: set[str]) -> Iterator[str]:
    """The modules of the package that the text of a module imports, wherever in it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.partition(".")[0] == "edgescope")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            if node.module and node.module.partition(".")[0] == "edgescope":
                for name in node.names:
                    inside = f"{node.module}.{name.name}"
                    if inside in known:
                        yield inside
                    elif node.module != "edgescope" or name.name not in ROOT_NAMES:
                        yield node.module


def layer_of(module: str) -> str:
    """The package or file directly below ``edgescope`` that a module lies in; ``__init__`` for ``edgescope`` itself."""
    return module.split(".")[1] if "." in module else "__init__"


def read_layers(page: str) -> list[str]:
    """The layers in the layout of docs/design.md, from the top down."""
    (block,) = re.findall(r"^```\nsrc/edgescope/\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names = re.findall(r"^    (\w+(?:\.py|/))", block, re.MULTILINE)
    return [name.removesuffix("/").removesuffix(".py") for name in names]


def upward(imports: dict[str, set[str]], layers: list[str]) -> list[str]:
    """The imports of a module from a higher layer, in words."""
    place = {layer: number for number, layer in enumerate(layers)}
    return [
        f"{module} imports {other}"
        for module, others in imports.items()
        for other in sorted(others)
        if place[layer_of(other)] < place[layer_of(module)]
    ]


def shared_names(texts: dict[str, str]) -> dict[str, set[str]]:
    """Names of classes that several modules define, also inside of functions and classes, with these modules."""
    found: dict[str, list[str]] = defaultdict(list)
    for module, text in texts.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(module)
    return {name: set(modules) for name, modules in found.items() if len(modules) > 1}


LAYERS = read_layers((ROOT / "docs" / "design.md").read_text(encoding="utf-8"))
MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TEXTS = {module: path.read_text(encoding="utf-8") for module, path in MODULES.items()}


@functools.cache
def all_imports() -> dict[str, set[str]]:
    """The modules that each module of the package imports."""
    return {module: set(imports_of(text, module, set(MODULES))) for module, text in TEXTS.items()}


def test_the_layout_in_the_design_lists_every_layer_once() -> None:
    there = [path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    assert sorted(LAYERS) == sorted(there)


def test_imports_run_downward() -> None:
    assert upward(all_imports(), LAYERS) == []


def test_an_upward_import_is_found() -> None:
    known = {"edgescope", "edgescope.low", "edgescope.high", "edgescope.high.part"}
    for text in (
        "from edgescope.high.part import name",
        "from edgescope.high import part",
        "import edgescope.high",
        "def f():\n    from edgescope import high",
        "if TYPE_CHECKING:\n    import edgescope.high.part",
        "from edgescope import Objective",
    ):
        found = {"edgescope.low": set(imports_of(text, "edgescope.low", known))}
        assert len(upward(found, ["__init__", "high", "low"])) == 1, text
    below = {"edgescope.high.part": set(imports_of("from edgescope import low", "edgescope.high.part", known))}
    assert upward(below, ["__init__", "high", "low"]) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graphlib.TopologicalSorter(all_imports()).prepare()  # raises CycleError, which names the circle


def test_no_file_is_longer_than_400_lines() -> None:
    files = [path for folder in (PACKAGE, ROOT / "tests") for path in folder.rglob("*.py")]
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_no_two_classes_have_one_name() -> None:
    assert shared_names(TEXTS) == SAME_NAMES


def test_two_classes_of_one_name_are_found() -> None:
    texts = {"edgescope.a": "class One: pass\nclass Two: pass", "edgescope.b": "def f():\n    class Two: pass"}
    assert shared_names(texts) == {"Two": {"edgescope.a", "edgescope.b"}}


def test_every_package_and_module_says_what_it_is() -> None:
    assert [module for module, text in TEXTS.items() if not ast.get_docstring(ast.parse(text))] == []


def test_every_folder_of_modules_is_a_package() -> None:
    assert [path.parent for path in MODULES.values() if not (path.parent / "__init__.py").exists()] == []
