from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgescope.data import DATA, Dataset
from edgescope.data.dataset import stratified
from edgescope.errors import InputError


def parts(**changes: Any) -> dict[str, Any]:
    return {
        "name": "sample",
        "inputs": torch.arange(12.0).reshape(6, 2),
        "targets": torch.tensor([2, 0, 1, 0, 0, 2]),
        "test_inputs": torch.zeros(2, 2),
        "test_targets": torch.tensor([1, 0]),
        "classes": 3,
        "preprocessing": "none",
        "source": "here",
        "licence": "CC0",
    } | changes


def test_a_sound_data_set_is_taken_as_it_is() -> None:
    dataset = Dataset(**parts())
    assert dataset.input_shape == (2,)
    assert dataset.describe().splitlines() == [
        "sample: 6 training and 2 test samples of shape 2, 3 classes",
        "preprocessing: none",
        "source: here",
        "licence: CC0",
    ]


NAN = torch.tensor([[0.0, float("nan")]] * 6)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"inputs": torch.zeros(0, 2), "targets": torch.zeros(0, dtype=torch.int64)}, "training part .* is empty"),
        ({"test_inputs": torch.zeros(2, 0)}, "test part .* is empty"),
        ({"inputs": NAN}, "contain 6 values that are NaN"),
        ({"test_inputs": torch.full((2, 2), float("inf"))}, "test inputs .* contain 4 values"),
        ({"targets": torch.tensor([2, 0, 1, 0, 0, 3])}, "targets .* contain the index 3; expected 0 to 2"),
        ({"test_targets": torch.tensor([-1, 0])}, "test targets .* contain the index -1"),
        ({"targets": torch.tensor([2, 0, 1])}, r"targets \(3,\); expected targets of shape \(6,\)"),
        ({"test_inputs": torch.zeros(2, 3)}, r"test inputs .* shape \(2, 3\)"),
        ({"inputs": torch.zeros(6, 2, dtype=torch.float64)}, "are torch.float64"),
        ({"targets": torch.zeros(6)}, "targets torch.float32"),
        ({"inputs": torch.zeros(6, 2, 2)}, r"shape \(6, 2, 2\)"),
        ({"classes": 1}, "1 classes"),
        ({"licence": " "}, "does not state its licence"),
        ({"vocabulary": ("a", "b")}, "vocabulary of 2 tokens; expected 3"),
        ({"inputs": torch.zeros(6, 2, dtype=torch.int64)}, r"targets \(6,\); expected targets of shape \(6, 2\)"),
    ],
)
def test_a_fault_is_named_in_one_line(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError, match=fault) as caught:
        Dataset(**parts(**changes))
    assert "\n" not in str(caught.value)
    assert "sample" in str(caught.value)


def test_tokens_outside_the_vocabulary_are_refused() -> None:
    tokens = torch.tensor([[0, 1], [2, 0]])
    good = {"inputs": tokens, "targets": tokens, "test_inputs": tokens, "test_targets": tokens}
    assert Dataset(**parts(**good)).input_shape == (2,)
    with pytest.raises(InputError, match=r"training inputs .* contain the index 3"):
        Dataset(**parts(**good | {"inputs": tokens + 1}))


def real(**changes: Any) -> dict[str, Any]:
    return parts(targets=torch.arange(12.0).reshape(6, 2), test_targets=torch.zeros(2, 2), classes=2) | changes


def test_real_targets_are_taken_and_their_first_samples_chosen() -> None:
    dataset = Dataset(**real())
    assert dataset.real
    assert dataset.describe().splitlines()[0] == "sample: 6 training and 2 test samples of shape 2, 2 real targets"
    subset = dataset.subset(train=4)
    assert torch.equal(subset.targets, dataset.targets[:4])
    assert "the first samples, 4 for training" in subset.preprocessing
    assert not Dataset(**parts()).real


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"test_targets": torch.zeros(2, dtype=torch.int64)}, "test inputs .* targets torch.int64"),
        ({"targets": torch.zeros(6)}, "targets torch.float32; expected .* or torch.float32"),
        ({"targets": torch.zeros(6, 1)}, r"targets \(6, 1\); expected targets of shape \(6, 2\)"),
        ({"targets": torch.full((6, 2), float("nan"))}, "training targets .* contain 12 values that are NaN"),
        ({"inputs": torch.zeros(6, 2, dtype=torch.int64)}, "targets torch.float32"),
        ({"test_targets": torch.zeros(2, 1)}, r"expected targets of shape \(2, 2\)"),
    ],
)
def test_a_fault_in_real_targets_is_named(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError, match=fault) as caught:
        Dataset(**real(**changes))
    assert "\n" not in str(caught.value)


def test_a_subset_is_the_first_of_each_class_in_order() -> None:
    subset = Dataset(**parts()).subset(train=4)
    # Shares of 4 among classes of 3, 1 and 2 are 2, 2/3 and 4/3: largest remainders give 2, 1 and 1.
    assert subset.inputs[:, 0].tolist() == [0.0, 2.0, 4.0, 6.0]
    assert subset.targets.tolist() == [2, 0, 1, 0]
    assert len(subset.test_inputs) == 2
    assert "4 for training and 2 for testing" in subset.preprocessing


@pytest.mark.parametrize(("train", "test"), [(7, None), (0, None), (None, 3), (-1, None)])
def test_a_subset_of_more_or_less_than_there_is_is_refused(train: int | None, test: int | None) -> None:
    with pytest.raises(InputError, match="requested from data set 'sample'; expected 1 to"):
        Dataset(**parts()).subset(train, test)


@given(st.data())
def test_stratification_keeps_proportions(data: st.DataObject) -> None:
    targets = torch.tensor(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=60)))
    count = data.draw(st.integers(1, len(targets)))
    chosen = stratified(targets, count)
    assert len(chosen) == count
    assert bool((chosen[1:] > chosen[:-1]).all())
    for label in range(5):
        of_class = torch.nonzero(targets == label).flatten()
        mine = chosen[targets[chosen] == label]
        assert abs(len(mine) - count * len(of_class) / len(targets)) < 1
        assert torch.equal(mine, of_class[: len(mine)])


def test_digits_are_split_by_class_and_the_parts_share_no_image() -> None:
    digits = DATA.build("digits").load()
    assert digits.inputs.shape == (1442, 1, 8, 8)
    assert digits.test_inputs.shape == (355, 1, 8, 8)
    whole = torch.bincount(digits.targets) + torch.bincount(digits.test_targets)
    # The class sizes that scikit-learn documents for its digits.
    assert whole.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert torch.equal(torch.bincount(digits.test_targets), whole // 5)
    train = {image.numpy().tobytes() for image in digits.inputs}
    assert not any(image.numpy().tobytes() in train for image in digits.test_inputs)


def test_names_are_known_and_options_read() -> None:
    assert {"fashion-5k", "digits", "mnist", "fashion-mnist", "cifar10", "cifar10-5k", "text"} <= set(DATA)
    assert DATA.parse("mnist:some/where,pool=2") == ("mnist", {"folder": "some/where", "pool": 2})
    assert DATA.parse("text:notes.txt,length=8") == ("text", {"path": "notes.txt", "length": 8})
    with pytest.raises(InputError, match="try 'fashion-5k'"):
        DATA.build("fashon-5k")
