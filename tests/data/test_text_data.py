from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgescope.data import DATA
from edgescope.errors import InputError

TEXT = "Ich weiß, daß ich nichts weiß. " * 20


def test_windows_follow_each_other_and_targets_are_one_later(tmp_path: Path) -> None:
    path = tmp_path / "wise.txt"
    path.write_text(TEXT, encoding="utf-8")
    dataset = DATA.build(f"text:{path},length=7").load()
    assert dataset.vocabulary == tuple(sorted(set(TEXT)))
    assert dataset.classes == len(set(TEXT))
    cut = int(0.9 * len(TEXT))
    for inputs, targets, text in (
        (dataset.inputs, dataset.targets, TEXT[:cut]),
        (dataset.test_inputs, dataset.test_targets, TEXT[cut:]),
    ):
        assert inputs.dtype == targets.dtype == torch.int64
        assert inputs.shape == targets.shape == ((len(text) - 1) // 7, 7)
        read = ["".join(dataset.vocabulary[i] for i in row) for row in inputs]
        after = ["".join(dataset.vocabulary[i] for i in row) for row in targets]
        assert "".join(read) == text[: 7 * len(read)]
        assert "".join(after) == text[1 : 1 + 7 * len(read)]
    assert dataset.name == "text:wise.txt"
    assert "SHA-256" in dataset.source


def test_a_subset_takes_the_first_windows(tmp_path: Path) -> None:
    path = tmp_path / "wise.txt"
    path.write_text(TEXT, encoding="utf-8")
    whole = DATA.build(f"text:{path},length=7").load()
    part = DATA.build(f"text:{path},length=7,train=5,test=2").load()
    assert torch.equal(part.inputs, whole.inputs[:5])
    assert torch.equal(part.test_targets, whole.test_targets[:2])


@pytest.mark.parametrize(
    ("content", "options", "fault"),
    [
        (b"short", "", "has 5 characters for windows of 64"),
        (b"", "", "has 0 characters"),
        (b"a" * 1000, "", "1 classes"),
        (b"\xff\xfe" * 500, "", "not text in UTF-8"),
        (b"abc" * 1000, ",length=0", "length=0"),
        (b"abc" * 1000, ",train=43", "43 training samples requested"),
        (None, "", "cannot be read"),
    ],
)
def test_a_text_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, options: str, fault: str) -> None:
    path = tmp_path / "bad.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=fault) as caught:
        DATA.build(f"text:{path}{options}").load()
    assert "\n" not in str(caught.value)


def test_a_text_without_a_file_is_refused() -> None:
    with pytest.raises(InputError, match="text:PATH"):
        DATA.build("text").load()
