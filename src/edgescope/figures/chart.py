"""The type of a chart, known without Altair, so that what only passes charts on need not load it."""

from __future__ import annotations

from typing import Any

Chart = Any
"""An Altair chart of any kind; what ``alt.layer`` and ``alt.concat`` return differs between its versions."""
