"""The live page of runs: a server on this machine that shows the records below a folder while they are written."""

from edgescope.extras import require

require("board", "the live page needs", "altair", "polars", "starlette", "uvicorn", "vl_convert")

from edgescope.board.app import make_app
from edgescope.board.runs import Runs
from edgescope.board.server import serve

__all__ = ["Runs", "make_app", "serve"]
