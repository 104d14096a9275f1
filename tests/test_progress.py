"""Progress of a part of the work as progress of the whole; and every caller's signature."""

from __future__ import annotations

import pytest

from edgescope.progress import part_of, time_left


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


@pytest.mark.parametrize(
    ("done", "before", "elapsed", "left"),
    [
        (0.0, 0.0, 5.0, None),
        (0.001, 0.0, 5.0, None),  # 83 minutes, of which the start is most
        (0.02, 0.0, 5.0, 245.0),
        (0.001, 0.0, 40.0, None),
        (0.002, 0.0, 40.0, 19960.0),  # a long run: half a minute is enough for a guess
        (0.905, 0.9, 10.0, 190.0),  # a twentieth of what was left
        (0.9, 0.9, 100.0, None),
        (1.0, 0.0, 60.0, 0.0),
        (1.0, 1.0, 0.0, 0.0),
    ],
)
def test_the_time_left_is_told_once_it_rests_on_something(
    done: float, before: float, elapsed: float, left: float | None
) -> None:
    assert time_left(done, before, elapsed) == (None if left is None else pytest.approx(left))
