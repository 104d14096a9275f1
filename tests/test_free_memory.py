"""Free memory of the machine: what Linux says itself, elsewhere what psutil finds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from edgescope.memory import available

MEMINFO = "MemTotal:       65842464 kB\nMemFree:         1234567 kB\nMemAvailable:   18335772 kB\nSwapFree: 0 kB\n"


@pytest.mark.parametrize(
    ("meminfo", "free"), [(MEMINFO, 1024 * 18_335_772), (MEMINFO.replace("MemAvailable", "MemOther"), 4321)]
)
def test_free_memory_is_read_from_the_system(monkeypatch: pytest.MonkeyPatch, meminfo: str, free: int) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path, encoding=None: meminfo)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4321))
    assert available() == free


def test_free_memory_without_a_file_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path, encoding: str | None = None) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4321))
    assert available() == 4321
