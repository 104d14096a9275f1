"""``edgescope board``: a live page of the runs below a folder."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from edgescope.cli.command import Command
from edgescope.cli.say import say


@dataclass(frozen=True)
class Board(Command):
    """Show the runs below a folder on a live page in the browser, while they are trained.

    The page lists all runs with their state and verdict, and draws loss, eigenvalues and thresholds, ratio, norms and
    spectra of those you choose, up to twelve beside each other. Records are only read. The page is served to this
    machine alone; for another one use an SSH tunnel, or --host with --token. Ctrl-C ends it.

    Examples:
      edgescope board runs
      edgescope board runs --port 9000
      edgescope board runs --host 0.0.0.0 --token
    """

    dir: Positional[Path]
    """folder with runs at any depth, or one run; runs that are added later appear by themselves"""
    host: str = "127.0.0.1"
    """address to listen on; any other than loopback needs --token"""
    port: Annotated[int, arg(metavar="PORT")] = 8765
    """port to listen on; 0 takes a free one"""
    token: bool = False
    """answer only to whoever knows a random token, which is part of the address that is printed"""

    def run(self) -> int:
        from edgescope.board import serve

        with contextlib.suppress(KeyboardInterrupt):
            serve(self.dir, self.host, self.port, token=self.token, ready=lambda address: _tell(self.dir, address))
        return 0


def _tell(folder: Path, address: str) -> None:
    say(f"runs below {folder}: {address}", "Ctrl-C ends it.")
    sys.stdout.flush()  # whoever started this in the background waits for the address
