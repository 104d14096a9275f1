"""How a sweep ends that was interrupted or has failed runs: lines for the terminal, and the exit code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from edgescope.cli.failure import FAILED, INTERRUPTED
from edgescope.cli.say import say

if TYPE_CHECKING:
    from edgescope.sweep import Outcome


def interrupted(kept: str, again: str) -> int:
    """Say what is kept, and the command that continues; the exit code."""
    say(f"interrupted; {kept}. To continue:", f"  {again}", file=sys.stderr)
    return INTERRUPTED


def ended(outcomes: list[Outcome], again: str) -> int:
    """Say which runs failed, and the command that tries them once more; the exit code."""
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if not failed:
        return 0
    _tell_of(failed)
    say(f"{len(failed)} of {len(outcomes)} runs failed. To retry them:", f"  {again}", file=sys.stderr)
    return FAILED


def _tell_of(failed: list[Outcome]) -> None:
    """A line for each reason, with the first run that has it."""
    reasons: dict[str | None, list[Outcome]] = {}
    for outcome in failed:
        reasons.setdefault(outcome.error, []).append(outcome)
    for error, runs in reasons.items():
        others = f", and {len(runs) - 1} more for the same reason" if len(runs) > 1 else ""
        say(f"edgescope: run '{runs[0].name}' failed ({error}){others}; see {runs[0].folder}", file=sys.stderr)
