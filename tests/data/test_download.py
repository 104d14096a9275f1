from __future__ import annotations

import functools
import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgescope.data.download import fetch
from edgescope.errors import InputError

CONTENT = b"published"
MD5 = hashlib.md5(CONTENT).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "file.gz").write_bytes(CONTENT)
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{serving.server_address[1]}/file.gz"
        serving.shutdown()
        thread.join()


def test_a_file_is_downloaded_once_and_checked(server: str, tmp_path: Path) -> None:
    path = fetch(server, MD5, tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    (tmp_path / "served" / "file.gz").unlink()
    assert fetch(server, MD5, tmp_path / "cache") == path


def test_another_file_is_refused(server: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the published file"):
        fetch(server, hashlib.md5(b"other").hexdigest(), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_missing_file_is_one_clear_line(server: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="could not download"):
        fetch(server + "x", MD5, tmp_path / "cache")


def test_no_connection_is_one_line_that_says_to_give_a_folder(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.gz"
        with pytest.raises(InputError, match="try folder=") as caught:
            fetch(url, MD5, tmp_path)
    assert "\n" not in str(caught.value)
