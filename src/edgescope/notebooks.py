"""Results in notebooks: small HTML tables, in which names and texts from elsewhere are only text."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from edgescope.printable import printable

C = TypeVar("C")

MOST_ENTRIES: Final = 8
"""Entries of an array, a sequence or a mapping that are written out."""

LONGEST: Final = 300
"""Letters of a text."""


def in_notebooks(kind: type[C]) -> type[C]:
    """A class decorator: objects of this dataclass are shown as a table of their fields where HTML can be shown.

    Fields whose names begin with an underscore, and those that are None, are left out; so are the entries of large
    arrays.
    """

    def represented(self: Any) -> str:
        shown = [(field.name, getattr(self, field.name)) for field in dataclasses.fields(self)]
        rows = [(name, text_of(value)) for name, value in shown if value is not None and name[:1] != "_"]
        return table_html(kind.__name__, ("", ""), rows)

    kind._repr_html_ = represented  # type: ignore[attr-defined]
    return kind


def table_html(title: str, headers: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> str:
    """A table with a title and a note below it, as HTML without styles or scripts. Empty headers are left out."""
    head = "".join(f"<th>{escaped(name)}</th>" for name in headers) if any(headers) else ""
    body = "".join("<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f"<div><strong>{escaped(title)}</strong><table>{f'<thead><tr>{head}</tr></thead>' if head else ''}"
        f"<tbody>{body}</tbody></table>{f'<p>{escaped(note)}</p>' if note else ''}</div>"
    )


def escaped(text: str) -> str:
    """A text for HTML: at most ``LONGEST`` letters, with control characters written out."""
    import html  # its table of entities is not needed before a result is shown

    shown = printable(text, keep="\n")
    return html.escape(shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…")


def text_of(value: Any) -> str:
    """A value in a cell: numbers to six digits, the kind and shape of large arrays, the first entries of others."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, numbers.Real):
        return f"{float(value):.6g}" if not isinstance(value, numbers.Integral) else str(value)
    shape = getattr(value, "shape", None)
    if shape is not None and hasattr(value, "tolist"):
        if math.prod(shape) > MOST_ENTRIES:
            return f"{type(value).__name__} of shape {tuple(shape)}, {str(value.dtype).removeprefix('torch.')}"
        return text_of(value.tolist())
    if isinstance(value, Mapping):
        return _listed([f"{printable(str(key)) or 'value'}: {text_of(entry)}" for key, entry in value.items()])
    if isinstance(value, list | tuple):
        return _listed([text_of(entry) for entry in value])
    return str(value)


def _listed(entries: list[str]) -> str:
    more = f", … ({len(entries)} in all)" if len(entries) > MOST_ENTRIES else ""
    return ", ".join(entries[:MOST_ENTRIES]) + more
