"""A figure as files: SVG, PNG and PDF that are what they say."""

from __future__ import annotations

import errno
import os
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import polars as pl
import pytest

from edgescope.errors import InputError, RecordError
from edgescope.figures import Figure, eigenvalue_curves, ratio_curves

RATIOS = pl.DataFrame({"run": ["a"] * 3 + ["b"] * 3, "step": [0, 1, 2] * 2, "ratio": [0.2, 0.7, 1.0, 0.1, 0.3, 0.9]})


def test_three_formats_at_their_sizes(tmp_path: Path) -> None:
    figure = Figure("ratio", "Ratio & <threshold>", "A caption.", ratio_curves(RATIOS))
    paths = figure.save(tmp_path / "new" / "folder")
    assert {kind: path.name for kind, path in paths.items()} == {k: f"ratio.{k}" for k in ("svg", "png", "pdf")}
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == ["ratio.pdf", "ratio.png", "ratio.svg"]

    picture = ElementTree.fromstring(paths["svg"].read_text(encoding="utf-8"))
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"Ratio & <threshold>", "step", "sharpness / threshold", "a", "b"} <= texts

    png = paths["png"].read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    assert (width, height) == pytest.approx((2 * float(picture.get("width")), 2 * float(picture.get("height"))), abs=2)
    assert png.rstrip()[-8:-4] == b"IEND"

    pdf = paths["pdf"].read_bytes()
    assert pdf.startswith(b"%PDF-1.")
    assert b"%%EOF" in pdf[-32:]


def test_a_figure_is_saved_under_another_name(tmp_path: Path) -> None:
    figure = Figure("ratio", "t", "c", ratio_curves(RATIOS))
    assert {path.name for path in figure.save(tmp_path, "mine").values()} == {"mine.svg", "mine.png", "mine.pdf"}
    with pytest.raises(InputError, match="a figure named 'my figure'"):
        figure.save(tmp_path, "my figure")


def test_the_picture_for_a_page_has_neither_title_nor_background() -> None:
    values = RATIOS.rename({"ratio": "value"})
    figure = Figure("eigenvalues", "A title", "A caption.", eigenvalue_curves(values))
    text = figure.svg()
    picture = ElementTree.fromstring(text)
    assert "A title" not in text
    assert "transparent" in text or picture.find(".//{http://www.w3.org/2000/svg}rect[@fill='white']") is None
    assert "Liberation Sans" in text


@pytest.mark.parametrize("name", ["", "../up", "Two words", "a/b", "é"])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="figure named") as caught:
        Figure(name, "t", "c", ratio_curves(RATIOS))
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    figure = Figure("ratio", "Ratio", "A caption.", ratio_curves(RATIOS))
    with pytest.raises(RecordError, match="cannot read or write") as caught:
        figure.save(tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line_and_leaves_the_old_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = Figure("ratio", "Ratio", "A caption.", ratio_curves(RATIOS))
    old = {path: path.read_bytes() for path in figure.save(tmp_path).values()}

    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(RecordError, match="the disk is full while writing") as caught:
        figure.save(tmp_path)
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == old
