"""The sizes in which a study can be run."""

from __future__ import annotations

from typing import Literal

Preset = Literal["quick", "full", "paper"]
"""quick: a few minutes; full: the settings for publication; paper: networks and data of the paper, many hours."""
