"""Who may read the page: checks of the host that a request names, of the token, and the headers of every answer."""

from __future__ import annotations

import http.cookies
import ipaddress
import re
import secrets
import socket
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The content security policy: scripts, styles and data from this server alone. Styles are also set inside of drawings,
by Vega."""

HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}


_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\d{1,5})?", re.ASCII)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is that of this machine, reachable from nowhere else."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@dataclass(frozen=True)
class Access:
    """Which requests are answered.

    ``host`` is what the server listens on, ``token`` what a reader has to know, None for nothing. A browser that was
    led here by another site's name for this address (DNS rebinding) sends that name as the host, so that only names
    that nobody else can give are accepted: on loopback ``localhost`` and loopback addresses; elsewhere also other
    addresses, ``host`` itself and the name of this machine.
    """

    host: str = "127.0.0.1"
    token: str | None = None

    def knows_host(self, header: str) -> bool:
        """Whether the host in a request's header is one of this server."""
        found = _HOST.fullmatch(header)
        name = found[1].strip("[]").lower() if found else ""
        if is_loopback(name):
            return True
        if is_loopback(self.host):
            return False
        try:
            ipaddress.ip_address(name)  # which no other site can give itself
            return True
        except ValueError:
            return name in {self.host.lower(), socket.gethostname().lower()}

    def admits(self, given: str | None) -> bool:
        """Whether this is the token, or none is needed. Takes the same time for every wrong one."""
        return self.token is None or secrets.compare_digest((given or "").encode(), self.token.encode())


class Guarded:
    """An application that answers only requests that :class:`Access` admits, and only to read.

    The token is taken from the address once (``?token=...``), kept by the browser as a cookie that no script sees, and
    removed from the address; programs send it as ``Authorization: Bearer ...``.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        refused = self._refused(scope["method"], headers)
        if refused:
            await answer(send, *refused)
            return
        cookie = f"edgescope-{(scope.get('server') or ('', 0))[1]}"
        query = dict(urllib.parse.parse_qsl(scope["query_string"].decode("latin-1")))
        if self.access.token is not None and scope["path"] == "/" and self.access.admits(query.get("token")):
            kept = f"{cookie}={self.access.token}; HttpOnly; SameSite=Strict; Path=/"
            await answer(send, 303, "", {"location": "/", "set-cookie": kept})
            return
        if not self.access.admits(_bearer(headers) or _cookie(headers, cookie)):
            text = "A token is needed: open the address that edgescope board printed, which ends in ?token=..."
            await answer(send, 401, text)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {key.lower() for key, _ in message["headers"]}
                added = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in own]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self.app(scope, receive, send_guarded)

    def _refused(self, method: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
        if not self.access.knows_host(headers.get("host", "")):
            return 421, "This server does not go by that name. Open the address that edgescope board printed."
        if method not in ("GET", "HEAD"):
            return 405, "This page can only be read."
        if headers.get("sec-fetch-site", "none") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return 403, "Other sites may not read this page."
        return None


async def answer(send: Send, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
    """Send a line of plain text."""
    every = {**HEADERS, "content-type": "text/plain; charset=utf-8", **(headers or {})}
    body = f"{text}\n".encode() if text else b""
    raw = [(key.encode(), value.encode()) for key, value in every.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _bearer(headers: Mapping[str, str]) -> str | None:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _cookie(headers: Mapping[str, str], name: str) -> str | None:
    try:
        found = http.cookies.SimpleCookie(headers.get("cookie", "")).get(name)
    except http.cookies.CookieError:
        return None
    return None if found is None else found.value
