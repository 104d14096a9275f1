"""Pickles written by hand, instruction by instruction, as nobody's program would write them."""

from __future__ import annotations

import struct


def text(value: bytes) -> bytes:
    """A text of Python 2."""
    return b"T" + struct.pack("<i", len(value)) + value


def dtype(code: bytes = b"u1", state: bytes | None = None, again: bytes = b"") -> bytes:
    """A type of numbers: its code, and the parts of its state after the order of bytes."""
    parts = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00" if state is None else state
    return b"cnumpy\ndtype\n" + text(code) + b"K\x00K\x01\x87R(K\x03" + text(b"|") + parts + b"tb" + again


def array(kind: bytes, shape: bytes, content: bytes) -> bytes:
    """An array of ``kind``, with the instructions that make its shape and content."""
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    return start + b"(K\x01" + shape + kind + b"\x89" + content + b"tb"


def batch(images: bytes, labels: bytes) -> bytes:
    """A batch of CIFAR-10 with these instructions for its parts."""
    return b"\x80\x02}(" + text(b"data") + images + text(b"labels") + labels + b"u."


IMAGE = array(dtype(), b"K\x01M\x00\x0c\x86", text(bytes(range(256)) * 12))
LABEL = b"](K\x07e"
