"""Who is answered: nobody from elsewhere without a token, no site under another name, nobody who wants to write."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from board_runs import get, write_run
from starlette.types import ASGIApp

from edgescope.board import Runs, make_app, serve
from edgescope.board.access import POLICY, Access, is_loopback
from edgescope.board.server import address_of, listen
from edgescope.cli import main
from edgescope.errors import InputError, RecordError


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "a", [0])
    return Runs(folder)


@pytest.fixture(scope="module")
def app(runs: Runs) -> ASGIApp:
    return make_app(runs)


@pytest.fixture(scope="module")
def locked(runs: Runs) -> ASGIApp:
    return make_app(runs, Access("0.0.0.0", "right"))


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:1", "LOCALHOST", "[::1]:8765", "127.8.9.1"])
def test_loopback_is_answered_by_its_names(app: ASGIApp, host: str) -> None:
    assert get(app, "/", host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example:8765",
        "localhost.evil.example",
        "",
        "192.168.0.7",
        "0.0.0.0",
        "[",
        "evil@127.0.0.1",
        "127.0.0.1/x",
    ],
)
@pytest.mark.parametrize("path", ["/", "/events", "/panels", "/vega.js", "/nothing"])
def test_other_names_are_refused_on_loopback(app: ASGIApp, host: str, path: str) -> None:
    assert get(app, path, host=host).status == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT"])
def test_the_page_can_only_be_read(app: ASGIApp, method: str) -> None:
    assert get(app, "/", method=method).status == 405


def test_other_sites_get_nothing(app: ASGIApp) -> None:
    assert get(app, "/panels", query="run=a", sec_fetch_site="cross-site", sec_fetch_mode="cors").status == 403
    assert get(app, "/", sec_fetch_site="cross-site", sec_fetch_mode="navigate").status == 200
    asked = get(app, "/panels", query="run=a", origin="http://evil.example")
    assert not any(name.startswith("access-control") for name in asked.headers)


def test_every_answer_forbids_what_is_outside(app: ASGIApp, locked: ASGIApp) -> None:
    for asked in (
        get(app, "/"),
        get(app, "/panels"),
        get(app, "/nothing"),
        get(app, "/", host="evil"),
        get(locked, "/"),
    ):
        assert asked.headers["content-security-policy"] == POLICY
        assert asked.headers["x-content-type-options"] == "nosniff"
        assert asked.headers["cache-control"] == "no-store"
    allowed = dict(part.strip().split(" ", 1) for part in POLICY.split(";"))
    assert allowed["default-src"] == "'none'"
    assert allowed["script-src"] == allowed["connect-src"] == "'self'"


def test_without_the_token_nothing_is_answered(locked: ASGIApp) -> None:
    for path in ("/", "/board.js", "/vega.js", "/events", "/panels"):
        assert get(locked, path).status == 401
        assert get(locked, path, query="token=wrong").status == 401
        assert get(locked, path, cookie="edgescope-8765=wrong").status == 401
        assert get(locked, path, authorization="Bearer wrong").status == 401
    assert get(locked, "/panels", query="run=a&token=right").status == 401  # it is taken at the first address alone


def test_the_token_becomes_a_cookie(locked: ASGIApp) -> None:
    first = get(locked, "/", query="token=right")
    assert (first.status, first.headers["location"]) == (303, "/")
    cookie, *options = first.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict"} <= set(options)
    assert get(locked, "/panels", query="run=a", cookie=f"other=1; {cookie}").status == 200
    assert get(locked, "/", authorization="Bearer right").status == 200


@pytest.mark.parametrize(
    ("host", "status"), [("192.168.0.7:8765", 200), (socket.gethostname(), 200), ("evil.example", 421)]
)
def test_other_machines_are_answered_by_address_and_name(locked: ASGIApp, host: str, status: int) -> None:
    assert get(locked, "/", host=host, authorization="Bearer right").status == status


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", ""])
def test_no_page_for_other_machines_without_a_token(tmp_path: Path, host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(InputError, match=r"no token was asked for.*try --token"):
        serve(tmp_path, host, 0)


def test_the_command_says_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--host", "0.0.0.0"], ["--port", "-1"], ["--port", "99999"], ["--host", "a..b", "--token"]):
        assert main(["board", str(tmp_path), *arguments]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["board", str(tmp_path / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        assert address_of(listening, Access()) == f"http://127.0.0.1:{port}/"
        assert address_of(listening, Access("127.0.0.1", "x")).endswith("/?token=x")
        with pytest.raises(RecordError, match=r"cannot be used .*try another --port"):
            listen("127.0.0.1", port)
