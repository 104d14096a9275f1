"""No pickle builds an object, follows a pointer, or costs more than its size."""

from __future__ import annotations

import pickle
import pickletools
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from forged_pickles import IMAGE, LABEL, array, batch, dtype, text
from hypothesis import given, settings
from hypothesis import strategies as st

from edgescope.data.cifar import _read_python
from edgescope.data.safe_pickle import load_arrays
from edgescope.errors import InputError

POINTER = text(b"AAAA\x00\x00\x00\x00")


def refused(data: bytes) -> str:
    with pytest.raises(InputError, match="'batch' is not a readable pickle of arrays") as caught:
        load_arrays(data, "batch")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_forgeries_below_differ_from_a_true_batch_in_one_part() -> None:
    images, labels = _read_python(batch(IMAGE, LABEL), "batch")
    assert images.reshape(-1).tolist() == list(range(256)) * 12
    assert labels.tolist() == [7]


SPOILT = {
    "object pointers": array(dtype(b"O8"), b"K\x01\x85", POINTER),
    "object pointers, by flags": array(dtype(b"O8", b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?"), b"K\x01\x85", POINTER),
    "numbers made objects by their flags": array(
        dtype(b"u8", b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?"), b"K\x01\x85", POINTER
    ),
    "bytes": array(dtype(b"S8"), b"K\x01\x85", POINTER),
    "text": array(dtype(b"U2"), b"K\x01\x85", POINTER),
    "void": array(dtype(b"V8"), b"K\x01\x85", POINTER),
    "dates": array(dtype(b"M8"), b"K\x01\x85", POINTER),
    "truth values that are neither": array(dtype(b"b1"), b"K\x08\x85", POINTER),
    "fields, by code": array(dtype(b"O,O"), b"K\x01\x85", POINTER * 1),
    "fields, by state": array(
        dtype(b"V8", b"N" + text(b"a") + b"\x85" + b"}" + text(b"a") + dtype(b"O8") + b"K\x00\x86sK\x08K\x01K\x1b"),
        b"K\x01\x85",
        POINTER,
    ),
    "a subarray": array(dtype(b"V8", dtype(b"O8") + b"K\x01\x86NNK\x08K\x01K\x1b"), b"K\x01\x85", POINTER),
    "metadata": array(dtype(b"u8", b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00}}\x86"), b"K\x01\x85", POINTER),
    "a type that is set twice": array(
        dtype(again=b"(K\x03" + text(b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"), b"K\x08\x85", POINTER
    ),
    "a type without its state": array(b"cnumpy\ndtype\n" + text(b"u1") + b"\x85R", b"K\x08\x85", POINTER),
    "more than its bytes": array(dtype(), b"K\x09\x85", POINTER),
    "fewer than its bytes": array(dtype(), b"K\x07\x85", POINTER),
    "a shape below zero": array(dtype(), b"J\xff\xff\xff\xffJ\xf8\xff\xff\xff\x86", POINTER),
    "a shape that wraps around": array(dtype(), b"\x8a\x09" + b"\0" * 8 + b"\1" + b"\x8a\x01\x01\x86", POINTER),
    "a shape of zero and much": array(dtype(), b"K\x00\x8a\x05\0\0\0\0\1\x86", text(b"")),
    "a shape of fractions": array(dtype(), b"G@ \0\0\0\0\0\0\x85", POINTER),
    "a shape of truth values": array(dtype(b"u8"), b"\x88\x85", POINTER),
    "many dimensions": array(dtype(b"u8"), b"(" + b"K\x01" * 40 + b"t", POINTER),
    "a list of objects": array(dtype(b"u8"), b"K\x01\x85", b"](" + POINTER + b"e"),
    "a shape that is a list": array(dtype(), b"](K\x08e", POINTER),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_only_arrays_of_numbers_are_admitted(spoilt: str) -> None:
    refused(b"\x80\x02" + SPOILT[spoilt] + b".")


CALLS = {
    "a state for a list": b"]K\x01b.",
    "a state for a text": text(b"a") + b"}b.",
    "a state for a class": b"cnumpy\nndarray\n}b.",
    "a class that is called": b"cnumpy\nndarray\nK\x01\x85R.",
    "a text that is called": text(b"os.system") + text(b"true") + b"\x85R.",
    "an array that is called": IMAGE + b")R.",
    "a call without a tuple": b"cnumpy\ndtype\n" + text(b"u1") + b"R.",
    "a subclass as array": b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85" + text(b"b") + b"\x87R.",
    "an object by its class": b"\x80\x02cnumpy\nndarray\nK\x01\x85\x81.",
    "an object by its class and names": b"\x80\x04cnumpy\nndarray\n)}\x92.",
    "an old instance": b"(inumpy\nndarray\n.",
    "an old object": b"(cnumpy\nndarray\nK\x01o.",
    "a name that persists": b"Pabc\n.",
    "a name that persists, from the stack": b"K\x01Q.",
    "an extension": b"\x82\x01.",
    "a buffer from elsewhere": b"\x97.",
    "a set": b"\x80\x04\x8f.",
    "a frozen set": b"\x80\x04(K\x01\x91.",
    "a text of another encoding": b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00utf-7\x86R.",
    "a name in pieces": b"\x80\x04\x8c\x05numpy\x8c\x07ndarray\x94\x93)R.",
    "a name that is no text": b"\x80\x04K\x01\x8c\x07ndarray\x93.",
    "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
}


@pytest.mark.parametrize("call", CALLS)
def test_no_instruction_builds_calls_or_sets_the_state_of_an_object(call: str) -> None:
    refused(CALLS[call])


def test_every_instruction_that_could_make_an_object_is_refused() -> None:
    """Whatever stands on the stack: none but the calls of an array's pickle goes through."""
    makers = {
        *("REDUCE", "BUILD", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID"),
        *("EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"),
    }
    assert makers <= {op.name for op in pickletools.opcodes}
    below = [b"N", b"]", b"}", b")", b"(", b"K\x01", text(b"a"), b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", IMAGE]
    for op in pickletools.opcodes:
        if op.name in makers:
            argument = {"INST": b"numpy\nndarray\n", "PERSID": b"a\n", "EXT2": b"\1\0", "EXT4": b"\1\0\0\0"}
            given_with = argument.get(op.name, b"\x01" if op.name == "EXT1" else b"")
            for first in below:
                for second in below:
                    refused(first + second + op.code.encode("latin-1") + given_with + b".")


CORRUPT_STACKS = [
    *(b"(.", b"0.", b"t.", b"(t(.", b"]e.", b"]K\x01K\x02s.", b"}(K\x01u.", b"}K\x01s.", b"a.", b"(a.", b"h\x07."),
    *(b"q\x01.", b"K\x01K\x02.", b"(q\x00.", b"\x85.", b"K\x01(\x86.", b"}(K\x01(K\x02u.", b"R.", b"b.", b"2."),
    *(b"K\x01", b"\x93.", b"l.", b"d.", b"cnumpy\nndarray\n.", dtype() + b"."),
]


@pytest.mark.parametrize("data", CORRUPT_STACKS)
def test_a_stack_that_lacks_something_is_refused(data: bytes) -> None:
    refused(data)


def doubled(levels: int, start: bytes = b"N") -> bytes:
    """A tuple of itself twice, level by level: short in a file, endless when it is taken apart."""
    return start + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(levels))


NUMBERS = b"\x8a\xff" + b"\xff" * 254 + b"\x01"  # of 255 bytes

COSTLY = {
    "labels that double": batch(IMAGE, doubled(60)),
    "labels that double, in a list": batch(IMAGE, b"](" + doubled(60) + b"e"),
    "a list that holds itself": batch(IMAGE, b"]q\x01h\x01a"),
    "labels too large": batch(IMAGE, b"](" + NUMBERS + b"e"),
    "labels that are truth values": batch(IMAGE, b"](\x88e"),
    "labels that are fractions": batch(IMAGE, b"](G?\xf0\0\0\0\0\0\0e"),
    "labels with two dimensions": batch(IMAGE, array(dtype(), b"K\x01K\x01\x86", text(b"\x07"))),
    "images with one dimension": batch(array(dtype(), b"M\x00\x0c\x85", text(bytes(3072))), LABEL),
    "images that are no numbers without dimensions": batch(array(dtype(), b")", text(b"a")), LABEL),
    "images in a memo that was never an array": batch(b"cnumpy\nndarray\n", LABEL),
    "keys that double": b"\x80\x02}" + doubled(60) + b"K\x01s.",
    "a memo far away": b"\x80\x02K\x01r\xff\xff\xff\xff.",
    "a text said to be long": b"\x80\x02T\xff\xff\xff\x7fabc.",
    "bytes said to be longer": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0fabc.",
    "bytes said to be longer and mutable": b"\x80\x05\x96" + b"\xff" * 7 + b"\x0fabc.",
    "a frame said to be longer": b"\x80\x04\x95" + b"\xff" * 7 + b"\x0fN",
    "deep tuples": b"\x80\x02" + b"N" + b"\x85" * 200_000 + b"K\x01.",
    "deep lists": b"\x80\x02" + b"(" * 100_000 + b"l" * 100_000 + b"K\x01.",
    "deep keys": b"\x80\x02}" + b"N" + b"\x85" * 200_000 + b"K\x01s.",
    "many values": b"\x80\x02" + b"]" * 1_000_000 + b".",
    "a text encoded again and again": b"\x80\x02"
    + b"X\x00\x00\x01\x00" + b"a" * 65536 + b"q\x000" + b"]("
    + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 1000 + b"e.",
    "the same, kept by arrays": b"\x80\x02X\x00\x00\x01\x00" + b"a" * 65536 + b"q\x00]("
    + array(dtype(), b"J\x00\x00\x01\x00\x85", b"h\x00") * 1000 + b"e.",
}  # fmt: skip


@pytest.mark.parametrize("costly", COSTLY)
def test_memory_and_time_are_in_proportion_to_the_file(costly: str) -> None:
    data = COSTLY[costly]
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            _read_python(data, "batch")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 64e6  # each would fill this machine's memory, or never end, or crash the interpreter


def test_a_forged_pointer_ends_in_an_error_and_not_in_a_crash() -> None:
    """In a process of its own: what it guards against would end the one that tests."""
    work = (
        "import sys; from edgescope.data.safe_pickle import load_arrays\n"
        "try: print(load_arrays(bytes.fromhex(sys.argv[1]), 'batch')[0])\n"
        "except ValueError as error: print('refused', type(error).__name__)"
    )
    data = b"\x80\x02" + SPOILT["object pointers"] + b"."
    done = subprocess.run([sys.executable, "-c", work, data.hex()], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "refused InputError\n")


@pytest.mark.parametrize("protocol", range(2, 5))
@pytest.mark.parametrize("code", ["u1", "<i2", ">i4", "<f4", ">f8", "u8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_numbers_read_back(protocol: int, code: str, order: Any) -> None:
    values = np.arange(24).astype(code).reshape(2, 3, 4).copy(order)
    found = load_arrays(pickle.dumps({"a": [values, values], "b": (1, -2.5, None, True, "ü", b"\xff")}, protocol), "a")
    assert found["b"] == (1, -2.5, None, True, "ü", b"\xff")
    assert found["a"][0] is found["a"][1]
    np.testing.assert_array_equal(found["a"][0], values)
    assert found["a"][0].dtype == values.dtype


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda parts: st.lists(parts) | st.tuples(parts) | st.tuples(parts, parts) | st.dictionaries(st.text(), parts),
    max_leaves=20,
)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(value=plain, protocol=st.integers(0, 4))
def test_plain_values_read_back(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    if b"c__builtin__\nbytes\n" not in data and b"c__builtin__\nbytearray\n" not in data:
        assert load_arrays(data, "batch") == value


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    codes=st.lists(
        st.sampled_from([op.code.encode("latin-1") for op in pickletools.opcodes])
        | st.sampled_from([b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", text(b"u1"), b"K\x01", b"h\0", IMAGE, dtype()])
        | st.binary(max_size=4),
        max_size=30,
    )
)
def test_any_instructions_end_in_values_or_one_line(codes: list[bytes]) -> None:
    try:
        found = load_arrays(b"\x80\x02" + b"".join(codes) + b".", "batch")
    except InputError:
        return
    assert not callable(found)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(place=st.integers(0, 3400), byte=st.integers(0, 255))
def test_any_byte_of_a_batch_may_be_wrong(place: int, byte: int) -> None:
    data = bytearray(batch(IMAGE, LABEL))
    data[place % len(data)] = byte
    try:
        images, labels = _read_python(bytes(data), "batch")
    except InputError:
        return
    assert (images.dtype, images.shape, labels.shape) == (np.uint8, (1, 3, 32, 32), (1,))
