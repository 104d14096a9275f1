"""The claims of a study as a table in Markdown, for its page in the documentation."""

from __future__ import annotations

from edgescope.studies.study import Study

HEAD = "| id | claim | judged quantity and region | where the region comes from |\n|---|---|---|---|"


def claim_table(study: Study) -> str:
    """One row a claim, under a line for each topic; the same text for the same code."""
    lines = []
    for topic in study.topics:
        lines += ["", f"**{topic.title}**", "", HEAD]
        for tested in topic.claims:
            claim = tested.claim
            scope = {"every": "every case", "some": "at least one case", "average": "the average"}[claim.scope]
            unit = f" {claim.unit}" if claim.unit else ""
            cells = (
                f"`{claim.id.partition('.')[2]}`",
                f"{claim.sentence} ({claim.source}; {claim.status})",
                f"{claim.quantity}: {claim.region.text()}{unit}, {scope}",
                claim.origin,
            )
            lines.append(f"| {' | '.join(map(_as_cell, cells))} |")
    return "\n".join(lines).strip() + "\n"


def _as_cell(text: str) -> str:
    """Without what Markdown takes for the end of a cell, or for italics."""
    return text.replace("|", "∣").replace("*", r"\*")


def with_table(page: str, study: Study) -> str:
    """The text of a page with the table of a study's claims between its two marks, as they are now.

    The marks are the HTML comments ``claims of NAME`` and ``end of the claims of NAME``. A page without them is
    returned as it is.
    """
    begin, end = f"<!-- claims of {study.name} -->", f"<!-- end of the claims of {study.name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    return f"{before}{begin}\n\n{claim_table(study)}\n{end}{after}" if found and closed else page
