"""Progress of a part of the work as progress of the whole; and every caller's signature."""

from __future__ import annotations

import pytest

from edgescope.progress import part_of


def test_a_part_takes_its_share_of_the_whole() -> None:
    told: list[tuple[float, str]] = []

    def listen(share: float, text: str = "", seconds_left: float | None = None, /) -> None:
        told.append((share, text))
        assert seconds_left is None  # the part's own estimate says nothing of the whole

    inner = part_of(part_of(listen, 0.5, 1.0, "descent, "), 0.2, 0.6, "lr 0.1, ")
    for share in (0.0, 0.5, 1.0):
        inner(share, f"step {share:g}", 3.0)
    assert [share for share, _ in told] == pytest.approx([0.6, 0.7, 0.8])
    assert [text for _, text in told] == [f"descent, lr 0.1, step {share}" for share in ("0", "0.5", "1")]
