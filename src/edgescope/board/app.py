"""The web application: the page with its scripts, the list of runs as it changes, and the panels of chosen runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import vl_convert
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from edgescope.board.access import Access, Guarded
from edgescope.board.panels import MOST_RUNS, Steps, make_panels
from edgescope.board.runs import Runs
from edgescope.board.spectra import last_spectrum, spectrum_panel
from edgescope.errors import EdgescopeError, InputError
from edgescope.figures import look
from edgescope.report.run_report.scalars import described

FILES: Final = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/board.css": ("board.css", "text/css; charset=utf-8"),
    "/board.js": ("board.js", "text/javascript; charset=utf-8"),
    "/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
    "/list.js": ("list.js", "text/javascript; charset=utf-8"),
}
"""The files of the page by their addresses: nothing else of the disk is served as a file."""

LOOK_SECONDS: Final = 0.25
"""Between two looks for a change to tell a page of."""

QUIET_SECONDS: Final = 15.0
"""After which a page is told that the server is still there."""

_FOLDER = Path(__file__).parent


def make_app(runs: Runs, access: Access | None = None, stopped: Callable[[], bool] = lambda: False) -> ASGIApp:
    """The application that shows ``runs`` to whom ``access`` admits (those on this machine by default).

    ``stopped`` says that the server ends, so that pages are not kept waiting. Addresses: ``/`` and the files of the
    page, ``/vega.js``, ``/events`` (the list as server-sent events) and ``/panels?run=NAME&run=...&first=&last=``. Runs
    are known by their names in the list alone; no part of an address becomes a path.
    """
    routes = [Route(address, _file(name, kind)) for address, (name, kind) in FILES.items()]

    async def vega(request: Request) -> Response:
        return Response(await run_in_threadpool(vega_script), media_type="text/javascript; charset=utf-8")

    async def events(request: Request) -> Response:
        return StreamingResponse(_events(runs, stopped), media_type="text/event-stream")

    async def panels(request: Request) -> Response:
        try:
            names, steps = _chosen(request, runs)
            return JSONResponse(await run_in_threadpool(panels_of, runs, names, steps))
        except EdgescopeError as error:
            return PlainTextResponse(str(error), status_code=404 if not isinstance(error, InputError) else 400)

    routes += [Route("/vega.js", vega), Route("/events", events), Route("/panels", panels)]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return Guarded(app, access or Access())


@cache
def vega_script() -> str:
    """Vega and its interpreter of expressions as one script, from the renderer of static pictures."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def panels_of(runs: Runs, names: list[str], steps: Steps = (None, None)) -> dict[str, Any]:
    """The panels of these runs, the colours and shapes of the page, and what could not be read."""
    tables, spectra, known = {}, {}, {}
    for place, name in enumerate(names):
        tables[name] = runs.scalars(name)
        try:
            with runs.reader(name).opened() as record:
                known.update({key: value for key, value in described([record]).items() if key not in known})
                has_spectra = (tables[name]["measure"] == "spectrum").any()
                spectrum = last_spectrum(record) if has_spectra else None  # else all readings are gone through for it
        except EdgescopeError:
            continue  # the list says why
        if spectrum is not None:
            spectra[place] = spectrum
    drawn = make_panels(tables, known, steps)
    last = spectrum_panel(spectra)
    return {"runs": names, "panels": [panel.as_dict() for panel in [*drawn, *([last] if last else [])]]}


def _file(name: str, kind: str) -> Callable[[Request], Any]:
    async def serve_file(request: Request) -> Response:
        return Response((_FOLDER / name).read_bytes(), media_type=kind)

    return serve_file


def _chosen(request: Request, runs: Runs) -> tuple[list[str], Steps]:
    names = list(dict.fromkeys(request.query_params.getlist("run")))
    if not names or len(names) > MOST_RUNS:
        raise InputError(f"{len(names)} runs to draw", expected=f"1 to {MOST_RUNS} of those in the list")
    for name in names:
        runs.reader(name)
    bounds = [_step(request.query_params.get(key), key) for key in ("first", "last")]
    return names, (bounds[0], bounds[1])


def _step(text: str | None, key: str) -> int | None:
    if not text:
        return None
    try:
        return max(-(2**62), min(2**62, int(text[:25])))
    except ValueError:
        raise InputError(f"{key} = '{text[:25]}'", expected="a step, as a whole number") from None


async def _events(runs: Runs, stopped: Callable[[], bool]) -> AsyncIterator[str]:
    """The rows of the list: all at first, later those that change, and the names of those that are gone."""
    version, quiet = -1, 0.0
    told: set[str] = set()
    look_of_page = {"palette": look.PALETTE, "shapes": look.SHAPES, "most": MOST_RUNS, "alarm": look.ALARM}
    yield _event("look", look_of_page | {"folder": str(runs.folder)})
    while not stopped():
        if runs.version != version:
            since, version = version, runs.version
            rows = runs.rows(since)
            names = set(runs.names)
            gone, told = sorted(told - names), names
            yield _event("runs", {"rows": [row.as_dict() for row in rows], "gone": gone})
            quiet = 0.0
        elif quiet >= QUIET_SECONDS:
            yield ": still here\n\n"
            quiet = 0.0
        await asyncio.sleep(LOOK_SECONDS)
        quiet += LOOK_SECONDS


def _event(kind: str, data: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'), allow_nan=False)}\n\n"
