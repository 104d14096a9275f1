"""Nested state survives packing, saving and loading exactly, without pickle."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgescope.errors import InputError, RecordError
from edgescope.store import load_checkpoint, pack_state, rng_state, save_checkpoint, set_rng_state, unpack_state

DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.complex64,
    torch.bool,
    torch.uint8,
    torch.int32,
    torch.int64,
]


def same(a: Any, b: Any) -> bool:
    """Equal in type, structure, dtype, shape and every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and raw(a) == raw(b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    if isinstance(a, dict):
        pairs = zip(a.items(), b.items(), strict=True)
        return len(a) == len(b) and all(same(p[0], q[0]) and same(p[1], q[1]) for p, q in pairs)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def raw(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    dtype = draw(st.sampled_from(DTYPES))
    count = torch.Size(shape).numel() * torch.empty((), dtype=dtype).element_size()
    content = bytearray(draw(st.binary(min_size=count, max_size=count)) or b"\0")
    if dtype == torch.bool:
        content = bytearray(byte % 2 for byte in content)
    flat = torch.frombuffer(content, dtype=torch.uint8)[:count]
    made = flat.view(dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)
    return made.transpose(0, -1) if made.ndim > 1 and draw(st.booleans()) else made


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.just(float("nan")) | st.text()
keys = st.integers() | st.text() | st.booleans() | st.tuples(st.integers(), st.text())
states = st.recursive(
    scalars | st.binary(max_size=5) | tensors(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=40)
@given(state=states)
def test_any_state_survives_a_checkpoint(tmp_path_factory: pytest.TempPathFactory, state: Any) -> None:
    packed, meta = pack_state("state", state)
    path = save_checkpoint(tmp_path_factory.mktemp("run"), 0, packed, meta)
    loaded = load_checkpoint(path)
    assert same(unpack_state("state", loaded.tensors, loaded.meta), state)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        lambda p: torch.optim.AdamW(p, lr=torch.tensor(1e-3), amsgrad=True),
        lambda p: torch.optim.RMSprop(p, lr=1 / 3, centered=True),
        lambda p: torch.optim.LBFGS(p, history_size=3),
    ],
)
def test_an_optimizer_continues_bit_for_bit(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    def build() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        return model, make(model.parameters())

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        inputs = torch.randn(8, 4)

        def closure() -> Tensor:
            optimizer.zero_grad()
            value = model(inputs).square().mean()
            value.backward()
            return value

        optimizer.step(closure)

    model, optimizer = build()
    for _ in range(3):
        step(model, optimizer)
    parts = {"model": dict(model.state_dict()), "optimizer": optimizer.state_dict(), "rng": rng_state()}
    packed, meta = pack_state("run", parts)
    path = save_checkpoint(tmp_path, 3, packed, meta)
    for _ in range(3):
        step(model, optimizer)

    resumed, again = build()
    loaded = load_checkpoint(path)
    state = unpack_state("run", loaded.tensors, loaded.meta)
    resumed.load_state_dict(state["model"])
    again.load_state_dict(state["optimizer"])
    set_rng_state(state["rng"])
    for _ in range(3):
        step(resumed, again)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))
    assert same(again.state_dict(), optimizer.state_dict())


def test_generators_continue_where_they_were(tmp_path: Path) -> None:
    def draw() -> list[Any]:
        return [torch.randn(3).tolist(), np.random.standard_normal(3).tolist(), random.gauss(0, 1)]  # noqa: NPY002

    draw()  # leaves half a pair in the Gaussian generators of NumPy and Python, which is state too
    packed, meta = pack_state("rng", rng_state())
    path = save_checkpoint(tmp_path, 0, packed, meta)
    expected = draw()
    assert draw() != expected
    loaded = load_checkpoint(path)
    set_rng_state(unpack_state("rng", loaded.tensors, loaded.meta))
    assert draw() == expected


def test_tied_sliced_and_conjugate_tensors(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {
        "tied": [base, base],
        "slices": [base[0], base[:, 1], base[1:, ::2]],
        "expanded": base[0].expand(3, 4),
        "scalar": base[2, 3],
        "conj": torch.tensor([1 + 2j]).conj(),
        "leaf": torch.nn.Parameter(base),
    }
    packed, meta = pack_state("s", state)
    loaded = load_checkpoint(save_checkpoint(tmp_path, 0, packed, meta))
    got = unpack_state("s", loaded.tensors, loaded.meta)
    state["leaf"] = base
    state["conj"] = torch.tensor([1 - 2j])
    assert same(got, state)


def test_keys_that_read_alike_stay_apart(tmp_path: Path) -> None:
    state = {0: torch.zeros(1), "0": torch.ones(1), "a.b": torch.full((1,), 2.0), "a": {"b": torch.full((1,), 3.0)}}
    packed, meta = pack_state("s", state)
    assert len(packed) == 4
    assert same(unpack_state("s", packed, meta), state)


def test_numpy_scalars_become_numbers() -> None:
    packed, meta = pack_state("s", {"lr": np.float32(0.1), "n": np.int64(3), "on": np.bool_(True)})
    assert same(unpack_state("s", packed, meta), {"lr": float(np.float32(0.1)), "n": 3, "on": True})


@pytest.mark.parametrize(
    "thing",
    [object(), lambda: None, torch.float32, {1, 2}, 1j, np.array(["a"]), np.array([None])],
    ids=["object", "function", "dtype", "set", "complex", "text array", "object array"],
)
def test_what_cannot_be_kept_is_refused_and_named(thing: Any) -> None:
    with pytest.raises(InputError, match=r"state 'opt\.groups\.0\.lr' is an? ") as caught:
        pack_state("opt", {"groups": [{"lr": thing}]})
    assert "\n" not in str(caught.value)


def test_a_missing_part_is_named() -> None:
    packed, meta = pack_state("opt", {"a": torch.ones(1)})
    with pytest.raises(RecordError, match=r"no 'opt\.a' of state 'opt'"):
        unpack_state("opt", {}, meta)
    with pytest.raises(RecordError, match="no 'tracker' of state 'tracker'"):
        unpack_state("tracker", packed, meta)
