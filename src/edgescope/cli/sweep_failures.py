"""What went wrong in the runs of a sweep, in lines for the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from edgescope.cli.say import say

if TYPE_CHECKING:
    from edgescope.sweep import Outcome


def tell_of(failed: list[Outcome]) -> None:
    """A line for each reason, with the first run that has it."""
    reasons: dict[str | None, list[Outcome]] = {}
    for outcome in failed:
        reasons.setdefault(outcome.error, []).append(outcome)
    for error, runs in reasons.items():
        others = f", and {len(runs) - 1} more for the same reason" if len(runs) > 1 else ""
        say(f"edgescope: run '{runs[0].name}' failed ({error}){others}; see {runs[0].folder}", file=sys.stderr)
