"""Reading pickles of arrays without letting them run anything, and without more memory or time than their size."""

from __future__ import annotations

import math
import pickletools
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from edgescope.errors import InputError

MOST_STEPS: Final = 300_000
"""Instructions in a pickle at most: a published batch of CIFAR-10, of 10,000 labels and file names, has some 40,000."""

_MOST_DIMENSIONS: Final = 8
_NUMBERS: Final = frozenset(("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"))
_PLAIN_STATE: Final = (None, None, None, -1, -1, 0)  # of a dtype: no fields, no subarray, no names, no flags

# All that a pickled array of numbers refers to, under the module names of old and new numpy. They are only names here:
# nothing is imported, and no method of numpy reads what the file holds.
_NAMES: Final = {
    "numpy ndarray": "array",
    "numpy dtype": "dtype",
    "numpy.core.multiarray _reconstruct": "reconstruct",
    "numpy._core.multiarray _reconstruct": "reconstruct",
    "_codecs encode": "encode",
}

_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: Final[dict[str, Callable[[], Any]]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_TEXTS: Final = ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_BYTES: Final = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
_FIGURES: Final = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_LITERALS: Final = frozenset((*_TEXTS, *_BYTES, *_FIGURES))
_TUPLES: Final = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Refused(Exception):
    """Why a pickle is not read."""


@dataclass(frozen=True)
class _Name:
    kind: str


@dataclass
class _Type:
    dtype: np.dtype[Any]
    complete: bool = False


@dataclass
class _Array:
    """An array whose content comes later in the pickle, and the places in the memo that wait for it."""

    places: list[int] = field(default_factory=list)


_MARK: Final = _Name("mark")


def load_arrays(data: bytes, name: str) -> Any:
    """The numbers, texts, lists, dicts with texts or numbers as keys, and numeric arrays in a pickle.

    ``name`` is what an error calls it. The instructions of the pickle are read here one by one; none makes an object
    of a class, calls anything, or sets the state of one. Memory and time are in proportion to the size of ``data`` and
    to :data:`MOST_STEPS`. Pickles of Python 2 are read too, their texts as latin-1. Raises :class:`InputError`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python, about escapes in texts of the oldest protocol
            return _Reader(len(data)).read(data)
    except (_Refused, ValueError, TypeError, OverflowError, struct.error) as error:
        raise InputError(f"'{name}' is not a readable pickle of arrays ({error})") from error


class _Reader:
    """A stack, and a memo of what was kept for later, as the format has them."""

    def __init__(self, size: int) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        # Bytes stand in a file of Python 3 as text, each once: encoding it over and over is no array's pickle.
        self._may_encode = size

    def read(self, data: bytes) -> Any:
        for steps, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if steps > MOST_STEPS:
                raise _Refused(f"more than {MOST_STEPS:,} instructions")
            if opcode.name == "STOP":
                break
            self._execute(opcode.name, argument)
        if len(self._stack) != 1 or type(self._stack[0]) in (_Name, _Type, _Array):
            raise _Refused("it does not end with one value")
        return self._stack[0]

    def _execute(self, name: str, argument: Any) -> None:
        if name in ("PROTO", "FRAME"):
            return
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self._stack.append(tuple(self._pop(_TUPLES[name])))
        elif name == "MARK":
            self._stack.append(_MARK)
        elif name in ("TUPLE", "LIST"):
            self._stack.append(tuple(self._marked()) if name == "TUPLE" else self._marked())
        elif name == "DICT":
            items = self._marked()
            self._stack.append({})
            self._set_items(items)
        elif name in ("APPEND", "APPENDS"):
            items = self._pop(1) if name == "APPEND" else self._marked()
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            self._set_items(self._pop(2) if name == "SETITEM" else self._marked())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._keep(len(self._memo) if name == "MEMOIZE" else argument)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self._memo:
                raise _Refused("it refers to a value that it has not kept")
            self._stack.append(self._memo[argument])
        elif name == "GLOBAL":
            self._stack.append(_named(argument))
        elif name == "STACK_GLOBAL":
            module, attribute = self._pop(2)
            if type(module) is not str or type(attribute) is not str:
                raise _Refused("a name that is no text")
            self._stack.append(_named(f"{module} {attribute}"))
        elif name == "REDUCE":
            called, arguments = self._pop(2)
            self._stack.append(self._made(called, arguments))
        elif name == "BUILD":
            self._build(*self._pop(1))
        else:
            raise _Refused(f"the instruction {name}, which arrays have no use for")

    def _pop(self, count: int) -> list[Any]:
        values = self._stack[-count:]
        if len(values) < count or any(value is _MARK for value in values):
            raise _Refused("a value is missing")
        del self._stack[-count:]
        return values

    def _marked(self) -> list[Any]:
        """What lies above the last mark, which goes too."""
        for place in range(len(self._stack) - 1, -1, -1):
            if self._stack[place] is _MARK:
                values = self._stack[place + 1 :]
                del self._stack[place:]
                return values
        raise _Refused("a mark is missing")

    def _top(self, kind: type) -> Any:
        if not self._stack or type(self._stack[-1]) is not kind:
            raise _Refused(f"a {kind.__name__} is missing")
        return self._stack[-1]

    def _set_items(self, items: list[Any]) -> None:
        target = self._top(dict)
        if len(items) % 2:
            raise _Refused("a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # The hash of nested tuples would take time that doubles with each level.
            if type(key) not in (str, bytes, int):
                raise _Refused(f"a key that is a {type(key).__name__}")
            target[key] = value

    def _keep(self, place: int) -> None:
        if not self._stack or self._stack[-1] is _MARK:
            raise _Refused("there is nothing to keep")
        self._memo[place] = value = self._stack[-1]
        if type(value) is _Array:
            value.places.append(place)

    def _made(self, called: Any, arguments: Any) -> Any:
        kind = called.kind if type(called) is _Name else ""
        given = arguments if type(arguments) is tuple else ()
        if kind == "dtype" and len(given) in (1, 3) and type(given[0]) is str and given[0] in _NUMBERS:
            return _Type(np.dtype(given[0]))
        if kind == "reconstruct" and len(given) == 3 and given[0] == _Name("array"):
            return _Array()
        if kind == "encode" and len(given) == 2 and type(given[0]) is str and given[1:] == ("latin1",):
            return self._encoded(given[0])
        raise _Refused(f"a call of {kind or 'a value'} that makes no array of numbers")

    def _encoded(self, text: str) -> bytes:
        self._may_encode -= len(text)
        if self._may_encode < 0:
            raise _Refused("it holds the same text again and again")
        return text.encode("latin-1")

    def _build(self, state: Any) -> None:
        target = self._stack[-1] if self._stack else None
        if type(target) is _Type:
            order = _byte_order(state)
            if target.complete:
                raise _Refused("a type of numbers that is set twice")
            target.dtype, target.complete = target.dtype.newbyteorder(order), True
        elif type(target) is _Array:
            array = self._array(state)
            self._stack[-1] = array
            for place in target.places:
                if self._memo[place] is target:
                    self._memo[place] = array
        else:
            raise _Refused(f"a state for a {type(target).__name__}")

    def _array(self, state: Any) -> np.ndarray:
        if type(state) is not tuple or len(state) != 5:
            raise _Refused("an array without its parts")
        _, shape, kind, fortran, content = state
        if type(shape) is not tuple or len(shape) > _MOST_DIMENSIONS or any(type(size) is not int for size in shape):
            raise _Refused("an array whose shape is no few whole numbers")
        if type(kind) is not _Type or not kind.complete:
            raise _Refused("an array of something other than numbers")
        if type(content) is str:  # of Python 2
            content = self._encoded(content)
        if type(content) is not bytes or type(fortran) not in (bool, int):
            raise _Refused("an array whose content is no bytes")
        within = all(0 < size <= len(content) for size in shape)  # so that the product is of small numbers
        if not within or math.prod(shape) * kind.dtype.itemsize != len(content):
            raise _Refused(f"an array of {len(content):,} bytes, which are not those of its shape")
        return np.frombuffer(content, kind.dtype).reshape(shape, order="F" if fortran else "C")


def _named(name: str) -> _Name:
    if name not in _NAMES:
        raise _Refused(f"it asks for {'.'.join(name[:200].split(' '))}, which arrays have no use for")
    return _Name(_NAMES[name])


def _byte_order(state: Any) -> Any:
    """What a dtype's state says; everything but the byte order has to be that of plain numbers."""
    if type(state) is not tuple or len(state) != 8 or any(type(part) not in (int, str, type(None)) for part in state):
        raise _Refused("a type of numbers with other parts")
    if state[0] != 3 or state[2:] != _PLAIN_STATE or state[1] not in ("|", "<", ">"):
        raise _Refused("a type of numbers with fields, of parts, or with flags")
    return state[1]
