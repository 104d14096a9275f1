"""Modular addition: every pair once, the right class, a reproducible split."""

from __future__ import annotations

import pytest
import torch

from edgescope.data import DATA
from edgescope.errors import InputError


@pytest.mark.parametrize("p", [2, 7, 97])
def test_every_pair_is_there_once_with_its_sum_as_class(p: int) -> None:
    found = DATA.build(f"modular-addition:modulus={p}").load()
    assert found.input_shape == (2 * p,)
    assert found.classes == p
    assert len(found.inputs) == round(0.4 * p * p)
    seen = set()
    for inputs, targets in ((found.inputs, found.targets), (found.test_inputs, found.test_targets)):
        assert torch.equal(inputs.sum(1), torch.full((len(inputs),), 2.0))
        a, b = inputs[:, :p].argmax(1), inputs[:, p:].argmax(1)
        assert torch.equal((a + b) % p, targets)
        seen |= {(int(x), int(y)) for x, y in zip(a, b, strict=True)}
    assert len(seen) == p * p


def test_without_mirrored_pairs_each_sum_is_there_in_one_order() -> None:
    found = DATA.build("modular-addition:modulus=7,share=0.5,mirrored=false").load()
    assert (len(found.inputs), len(found.test_inputs)) == (14, 14)
    inputs, targets = torch.cat([found.inputs, found.test_inputs]), torch.cat([found.targets, found.test_targets])
    a, b = inputs[:, :7].argmax(1), inputs[:, 7:].argmax(1)
    assert torch.equal((a + b) % 7, targets)
    assert {(int(x), int(y)) for x, y in zip(a, b, strict=True)} == {(x, y) for x in range(7) for y in range(x, 7)}


def test_the_split_depends_on_the_seed_alone() -> None:
    one, again, other = (DATA.build(f"modular-addition:modulus=11,seed={seed}").load() for seed in (1, 1, 2))
    assert torch.equal(one.inputs, again.inputs)
    assert not torch.equal(one.inputs, other.inputs)


def test_share_and_subsets() -> None:
    found = DATA.build("modular-addition:modulus=10,share=0.75,train=30,test=10").load()
    assert (len(found.inputs), len(found.test_inputs)) == (30, 10)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("modular-addition:modulus=1", "modulus=1"),
        ("modular-addition:share=1.0", "share=1;"),
        ("modular-addition:modulus=3,share=0.01", "share=0.01 of the 9 pairs"),
        ("modular-addition:share=nan", "share=nan"),
        ("modular-addition:modulus=3,share=0.05,mirrored=false", "share=0.05 of the 6 pairs"),
        ("modular-addition:modulus=5,train=11", "11 training samples"),
    ],
)
def test_what_leaves_nothing_to_learn_or_test_is_one_line(spec: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        DATA.build(spec).load()
    assert "\n" not in str(caught.value)
