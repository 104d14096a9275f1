"""Serving the page: on loopback unless there is a token, until it is interrupted."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvicorn

from edgescope.board.access import Access, is_loopback
from edgescope.board.app import make_app, vega_script
from edgescope.board.runs import Runs
from edgescope.errors import InputError, RecordError

PORT: Final = 8765


class BoardServer(uvicorn.Server):
    """A server that tells ``ready`` its address once it listens."""

    def __init__(self, runs: Runs, listening: socket.socket, access: Access, ready: Callable[[str], None]) -> None:
        app = make_app(runs, access, stopped=lambda: self.should_exit)
        super().__init__(
            uvicorn.Config(app, log_level="error", lifespan="off", server_header=False, timeout_graceful_shutdown=2)
        )
        self.listening, self.ready = listening, ready
        self.address = address_of(listening, access)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready(self.address)


def serve(
    folder: Path,
    host: str = "127.0.0.1",
    port: int = PORT,
    *,
    token: bool = False,
    ready: Callable[[str], None] = print,
) -> None:
    """Show the runs below ``folder`` on a page, until Ctrl-C; ``ready`` is called with its address.

    ``host`` is loopback, or anything else with ``token``: then the address has a random token without which nothing is
    answered. ``port`` 0 takes a free one. Raises :class:`InputError` for another host without a token, and
    :class:`RecordError` for a folder or a port that cannot be used.
    """
    if not token and not is_loopback(host):
        raise InputError(
            f"the page on {host} can be read by other machines, and no token was asked for",
            expected="127.0.0.1 without a token",
            hint="--token, or an SSH tunnel to 127.0.0.1",
        )
    if not folder.is_dir():
        raise RecordError(f"there is no folder {folder}", expected="a folder of runs, or one in which runs will be")
    access = Access(host, secrets.token_urlsafe(24) if token else None)
    listening = listen(host, port)
    runs = Runs(folder)
    server = BoardServer(runs, listening, access, ready)
    runs.start()
    threading.Thread(
        target=vega_script, daemon=True
    ).start()  # takes a second or two; the first page then need not wait
    try:
        server.run(sockets=[listening])
    finally:
        runs.close()
        listening.close()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; :class:`RecordError` where it cannot."""
    if not 0 <= port <= 65535:  # which the system would take modulo 65536
        raise InputError(f"port {port}", expected="a number from 0 to 65535")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise InputError(f"host '{host}' with port {port}: {error}", expected="an address of this machine") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise RecordError(
            f"{host} port {port} cannot be used ({error.strerror or error})", hint="another --port, or --port 0"
        ) from error
    return listening


def address_of(listening: socket.socket, access: Access) -> str:
    """What to open in a browser."""
    name, port = listening.getsockname()[:2]
    name = socket.gethostname() if name in ("0.0.0.0", "::") else f"[{name}]" if ":" in name else name
    return f"http://{name}:{port}/" + ("" if access.token is None else f"?token={access.token}")
