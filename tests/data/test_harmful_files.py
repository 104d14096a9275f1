"""Files made to do harm: what reading them costs is bounded before it is spent."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from idx_writer import idx_bytes, write_idx

from edgescope.bounded import ALWAYS, RATIO, BoundedFile, read_bounded
from edgescope.data import DATA
from edgescope.data.cifar import read_cifar10
from edgescope.data.idx import read_idx
from edgescope.errors import EdgescopeError, InputError

LITTLE = 4e6
"""Bytes that a refusal may take."""


def refused(work: Callable[[], object], fault: str, most: float = LITTLE) -> str:
    """The line that ``work`` is refused with, having taken no memory to speak of."""
    tracemalloc.start()
    try:
        with pytest.raises(EdgescopeError, match=fault) as caught:
            work()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most
    assert "\n" not in str(caught.value)
    return str(caught.value)


def header(*shape: int) -> bytes:
    return bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape)


HUGE = 2**32 - 1


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize(
    ("shape", "fault"),
    [
        ((HUGE, HUGE, 0), "contains no data"),
        ((0, 28, 28), "contains no data"),
        ((HUGE, HUGE, HUGE), "expected 79,228,162,458,924,105,385,300,197,375"),
        ((2**16, 2**8, 2**8), "expected 4,294,967,296"),
        ((2**30, 1, 1), "expected 1,073,741,824"),
        ((2**31, 2, 2**31), "expected 9,223,372,036,854,775,808"),
    ],
)
def test_sizes_in_a_header_are_not_believed(tmp_path: Path, shape: tuple[int, ...], fault: str, compress: bool) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    data = header(*shape) + bytes(100)
    path.write_bytes(gzip.compress(data) if compress else data)
    refused(lambda: read_idx(path, 3), fault)


def bomb(start: bytes, size: int) -> bytes:
    """A gzip file of zeros behind ``start``, of nearly the largest ratio that there is."""
    squeezed = zlib.compressobj(9, wbits=31)
    zeros = bytes(2**20)
    return b"".join(
        [squeezed.compress(start), *(squeezed.compress(zeros) for _ in range(size >> 20)), squeezed.flush()]
    )


def test_a_compressed_file_of_zeros_is_refused_beyond_its_ratio(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(bomb(header(2**8, 2**10, 2**10), 2**28))
    assert path.stat().st_size < 2**28 / 900
    said = refused(lambda: read_idx(path, 3), "holds at most")
    assert f"{RATIO * path.stat().st_size - 16:,}" in said
    # One that says it is small ends at its own size.
    path.write_bytes(bomb(header(2**8, 2**6, 2**6), 2**28))
    refused(lambda: read_idx(path, 3), "holds more than 1,048,576 bytes")
    # Within the allowance every ratio will do.
    path.write_bytes(gzip.compress(header(2**8, 2**6, 2**6 - 1) + bytes(2**20 - 2**14)))
    assert path.stat().st_size < ALWAYS / RATIO
    assert read_idx(path, 3).shape == (2**8, 2**6, 2**6 - 1)


def test_many_streams_in_one_file_count_together(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(bytes(2**20)) * 300)
    with BoundedFile(path, 2**40) as file:
        refused(lambda: file.skip(2**40), "when it is decompressed")
    path.write_bytes(gzip.compress(b"ab") + gzip.compress(b"") * 3000 + gzip.compress(b"c") + bytes(7))
    with BoundedFile(path, 2**40) as file:
        assert file.read(10) == b"abc"
    path.write_bytes(gzip.compress(b"ab") + b"more")
    with BoundedFile(path, 2**40) as file:
        refused(lambda: file.read(10), "cannot be read")


def test_a_file_name_without_end_in_a_gzip_header_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * 3_000_000)
    with BoundedFile(path, 2**40) as file:
        refused(lambda: file.read(10), "is cut short")


def archive(*members: tuple[tarfile.TarInfo, bytes], kind: str = "") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=f"w:{kind}") as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data) if data else None)
    return content.getvalue()


def member(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


BATCH = bytes(3073) * 2
NAMES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]


def whole(*first: tuple[tarfile.TarInfo, bytes], kind: str = "") -> bytes:
    return archive(*first, *((member(name, size=len(BATCH)), BATCH) for name in NAMES), kind=kind)


@pytest.mark.parametrize("kind", ["", "gz"])
def test_other_members_of_an_archive_neither_matter_nor_reach_the_disk(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "cifar-10-binary.tar.gz"
    strangers = [
        (member("../outside", size=4), b"evil"),
        (member("/tmp/edgescope-outside", size=4), b"evil"),
        (member("link", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b""),
        (member("data_batch_1.bin", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b""),
        (member("data_batch_2.bin", type=tarfile.LNKTYPE, linkname="/etc/passwd", size=10**9), b""),
        (member("data_batch_3.bin", type=tarfile.CHRTYPE, devmajor=1, devminor=5, size=10**9), b""),
        (member("data_batch_4.bin", type=tarfile.FIFOTYPE), b""),
        (member("test_batch.bin", type=tarfile.DIRTYPE), b""),
        (member("x" * 300, size=4), b"long"),
        (member("x", pax_headers={"comment": "1" * 100_000}), b""),
    ]
    path.write_bytes(whole(*strangers, kind=kind))
    raw = read_cifar10(path)
    assert raw.train.shape == (10, 3, 32, 32)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["cifar-10-binary.tar.gz", "in"]
    assert not Path("/tmp/edgescope-outside").exists()


def test_batches_that_are_links_or_devices_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
        path.write_bytes(archive(*((member(name, type=kind, linkname="/etc/passwd"), b"") for name in NAMES)))
        refused(lambda: read_cifar10(path), "no 'data_batch_1'")


def forged(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """The header block of a member, whatever size it claims."""
    info = member(name, size=size, type=kind)
    return info.tobuf(tarfile.GNU_FORMAT)


SPARSE = forged("data_batch_1.bin", 512, tarfile.GNUTYPE_SPARSE)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (forged("data_batch_1.bin", 2**62), "expected at most 268,435,456"),
        (forged("data_batch_1.bin", 2**28), "cut short"),
        (forged("other", 2**62), "cut short"),
        (forged("other", -512), "negative size"),
        (SPARSE + bytes(512), "sparse"),
        (forged("other", 2**40, tarfile.GNUTYPE_LONGNAME), "cut short"),
        (forged("other", 2**40, tarfile.XHDTYPE), "cut short"),
        (forged("other", 0) * 10_001, "more than 10,000 members|when it is decompressed"),
        (b"BZh9" + bytes(1000), "archive"),
        (b"\xfd7zXZ\0" + bytes(1000), "archive"),
        (b"", "archive"),
        (bytes(100), "archive"),
        (forged("other", 0)[:-1] + b"\1", "archive"),
    ],
)
@pytest.mark.parametrize("compress", [True, False])
def test_an_archive_takes_no_more_than_it_holds(tmp_path: Path, data: bytes, fault: str, compress: bool) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(gzip.compress(data) if compress else data)
    refused(lambda: read_cifar10(path), fault)


def test_a_bomb_in_an_archive_is_refused_beyond_its_ratio(tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(bomb(forged("data_batch_1.bin", 2**28), 2**28))
    refused(lambda: read_cifar10(path), "when it is decompressed", most=3 * RATIO * path.stat().st_size)
    path.write_bytes(bomb(forged("other", 2**30), 2**28))
    refused(lambda: read_cifar10(path), "when it is decompressed")


def test_a_batch_in_a_folder_has_a_largest_size(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(BATCH)
    os.truncate(tmp_path / "data_batch_2.bin", 2**40)  # takes no room on the disk
    refused(lambda: read_cifar10(tmp_path), "data_batch_2")


LIMITED = """
import resource, sys
from edgescope.data import DATA
from edgescope.errors import EdgescopeError
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 2**27, now + 2**27))
try:
    DATA.build(sys.argv[1]).load()
except EdgescopeError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["mnist", "cifar10", "text"])
def test_bombs_end_in_one_line_where_memory_is_scarce(tmp_path: Path, kind: str) -> None:
    """With 128 MiB more than the program: each file would take more than 256 MiB if it were believed."""
    if kind == "mnist":
        write_idx(tmp_path)
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(bomb(header(2**10, 2**10, 2**10), 2**28))
    elif kind == "cifar10":
        (tmp_path / "cifar-10-binary.tar.gz").write_bytes(bomb(forged("other", 2**30), 2**28))
    else:
        (tmp_path / "text").touch()
        os.truncate(tmp_path / "text", 2**40)
    place = tmp_path / "text" if kind == "text" else tmp_path
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    work = [sys.executable, "-c", LIMITED, f"{kind}:{place}"]
    done = subprocess.run(work, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    assert str(place) in done.stdout


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom", "/dev/tty", "/dev/stdin"])
def test_a_text_that_never_ends_is_refused(device: str) -> None:
    refused(lambda: DATA.build(f"text:{device}").load(), "is not a file|cannot be read")


def test_a_pipe_that_nobody_writes_to_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(lambda: DATA.build(f"text:{tmp_path / 'pipe'}").load(), "is not a file")
    refused(lambda: read_bounded(tmp_path / "pipe", 10), "is not a regular file")
    for name in NAMES:
        os.mkfifo(tmp_path / name)
    refused(lambda: read_cifar10(tmp_path), "no CIFAR-10")


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"abc" * 1000)
    with BoundedFile(path, 2**20) as file:
        assert file.read(2000) == (b"abc" * 1000)[:2000]
        path.write_bytes(b"abc" * 2000)
        refused(lambda: file.read(10**9), "grew while it was read")
    with pytest.raises(InputError, match=r"holds 6,000 bytes; expected at most 3,000"):
        read_bounded(path, 3000)
    # Such a file says that it holds nothing, and then gives something.
    refused(lambda: read_bounded(Path("/proc/self/maps"), 0), "expected at most 0")


def test_images_of_training_and_test_have_one_shape(tmp_path: Path) -> None:
    write_idx(tmp_path, compress=False)
    for shape in ((20, 14, 14), (20, 1, 28), (20, 1, 1)):
        (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros(shape, np.uint8)))
        refused(lambda: DATA.build(f"mnist:{tmp_path}").load(), "test images of 1 x .*; expected 1 x 28 x 28")


pieces = st.binary(max_size=40) | st.sampled_from([header(2, 3, 4), bytes(24), b"\x1f\x8b\x08", gzip.compress(b"x")])


@settings(max_examples=150, derandomize=True, deadline=None)
@given(parts=st.lists(pieces, max_size=4), compress=st.booleans(), cut=st.integers(0, 60))
def test_any_bytes_are_an_array_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], compress: bool, cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    data = b"".join(parts)
    path.write_bytes(gzip.compress(data)[: 80 - cut] if compress else data)
    try:
        found = read_idx(path, 3)
    except InputError:
        return
    assert data == idx_bytes(found)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(place=st.integers(0, 2**13), bytes_=st.binary(min_size=1, max_size=12), compress=st.booleans())
def test_any_bytes_of_an_archive_may_be_wrong(
    tmp_path_factory: pytest.TempPathFactory, place: int, bytes_: bytes, compress: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.tar"
    data = bytearray(whole(kind="gz" if compress else ""))
    place %= len(data)
    data[place : place + len(bytes_)] = bytes_
    path.write_bytes(data)
    try:
        raw = read_cifar10(path)
    except InputError:
        return
    assert raw.train.shape == (10, 3, 32, 32)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(data=st.binary(max_size=300) | st.text(max_size=200).map(str.encode), length=st.integers(1, 9))
def test_any_bytes_are_a_text_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes, length: int) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.txt"
    path.write_bytes(data)
    try:
        dataset = DATA.build(f"text:{path},length={length}").load()
    except InputError:
        return
    assert set(dataset.vocabulary or ()) == set(data.decode())
