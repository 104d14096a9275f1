"""What ``pip install edgescope`` brings is enough to measure a training loop; the rest says what it needs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from edgescope.errors import EdgescopeError, MissingExtraError
from edgescope.extras import EXTRA_OF, Optional, load, require

ROOT = Path(__file__).parent.parent

WITHOUT_EXTRAS = """
import sys, warnings
warnings.simplefilter("error")

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in MISSING else self.finder.find_spec(name, path, target)

MISSING = set(%r)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""

LOOP = """
import torch
import edgescope as es

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
x, y = torch.randn(16, 3, dtype=torch.float64), torch.randn(16, 1, dtype=torch.float64)
objective = es.Objective(model, es.supervised(torch.nn.functional.mse_loss), (x, y))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
with es.Monitor(objective, optimizer, every=5, measures=["loss", "sharpness"], out=sys.argv[1]) as monitor:
    for _ in range(20):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        monitor.step()
last = float(objective.loss())
with es.Record.open(sys.argv[1]) as record:
    steps, values = record.series("loss", "train")
    assert list(steps) == [0, 5, 10, 15, 20] and abs(values[-1] - last) < 1e-12, (steps, values, last)
    try:
        record.table()
    except es.errors.MissingExtraError as error:
        print(error)
"""

NAMES = """
import edgescope as es

absent = {}
for name in es.__all__:
    try:
        getattr(es, name)
    except es.errors.MissingExtraError as error:
        assert "\\n" not in str(error) and "pip install 'edgescope[" in str(error)
        absent[name] = str(error)
print(sorted(absent))
"""

COMMAND = """
from edgescope.cli import main
code = main(sys.argv[1:])
print(code)
"""


def without_extras(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a script does in a process in which no package of an extra can be imported."""
    whole = WITHOUT_EXTRAS % sorted(EXTRA_OF) + script
    return subprocess.run([sys.executable, "-c", whole, *arguments], capture_output=True, text=True, check=False)


def test_a_loop_is_measured_and_its_record_read(tmp_path: Path) -> None:
    done = without_extras(LOOP, str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert "polars" in done.stdout
    assert "edgescope[tables]" in done.stdout


def test_a_loop_does_not_wait_for_packages_that_it_does_not_use(tmp_path: Path) -> None:
    loop = LOOP.replace("record.table()", "raise es.errors.MissingExtraError('not asked for')")
    script = f"import sys\n{loop}\nprint([name for name in ('scipy.stats', 'numba', 'altair') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_public_names_load_or_say_what_they_need() -> None:
    done = without_extras(NAMES)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['figures', 'report', 'studies', 'sweep']"


@pytest.mark.parametrize("arguments", [["list", "models"], ["run", "edge", "--out", "x"]])
def test_the_command_line_says_what_it_needs(arguments: list[str]) -> None:
    done = without_extras(COMMAND, *arguments)
    assert done.stdout.strip() == "2", done.stderr
    assert done.stderr.count("\n") == 1
    assert "pip install 'edgescope[cli]', or in a checkout pip install -e '.[cli]'" in done.stderr


def test_the_version_needs_nothing() -> None:
    done = without_extras(COMMAND, "--version")
    assert done.stdout.splitlines()[-1] == "0", done.stderr
    assert done.stdout.startswith("edgescope ")


def test_what_is_missing_is_named_with_both_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    line = (
        "figures need the package altair, which is not installed; "
        r"try pip install 'edgescope\[figures\]', or in a checkout pip install -e '\.\[figures\]'$"
    )
    with pytest.raises(MissingExtraError, match=line):
        require("figures", "figures need", "json", "altair")
    with pytest.raises(EdgescopeError, match=r"^this needs the package altair"):
        load("altair")
    absent = Optional("altair")
    with pytest.raises(ImportError, match="altair"):
        _ = absent.Chart


def test_what_is_there_is_loaded() -> None:
    require("figures", "figures need", "altair", "polars")
    assert Optional("polars").DataFrame is load("polars").DataFrame


def test_every_package_is_in_the_extra_that_is_named_for_it() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    published = {"sklearn": "scikit-learn", "vl_convert": "vl-convert-python", "distributed": "dask[distributed]"}
    for module, extra in EXTRA_OF.items():
        assert any(need.startswith(published.get(module, module)) for need in extras[extra]), (module, extra)
