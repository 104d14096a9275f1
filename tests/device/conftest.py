"""The tests of this machine's GPU use what those of the second device do."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "second_device"))
