"""The command line, one file a command: a thin face over studies, runs and reports."""

from edgescope.cli.dispatch import COMMANDS, main

__all__ = ["COMMANDS", "main"]
