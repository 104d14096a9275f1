"""The outcomes of a sweep by the names of its runs: a dict that notebooks show as a table."""

from __future__ import annotations

from edgescope.notebooks import table_html, text_of
from edgescope.sweep.task import Outcome


class Outcomes(dict[str, Outcome]):
    """Outcomes by name; where HTML can be shown, a row each with status, seconds and error."""

    def _repr_html_(self) -> str:
        rows = [(name, one.status, text_of(round(one.seconds, 2)), one.error or "") for name, one in self.items()]
        count = f"{len(self)} run" + ("" if len(self) == 1 else "s")
        return table_html(f"Sweep of {count}", ("run", "status", "seconds", "error"), rows)
