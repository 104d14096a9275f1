"""The scripts of a page: the Vega bundle, our own, the figures' specifications, and the policy that allows no more."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert
from markupsafe import Markup

_FOLDER = Path(__file__).parent
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def as_json(value: Any) -> Markup:
    """A value as JSON for a ``<script type="application/json">``; no text in it can end the element or open another.

    Whatever a browser could take for markup is written as an escape of JSON, so that reading it gives the same value.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character, escaped in _ESCAPES.items():
        text = text.replace(character, escaped)
    return Markup(text)


@cache
def vega_bundle() -> Markup:
    """Vega and its interpreter of expressions as one script without imports, from the renderer of the static pictures.

    Raises ``ValueError`` for a bundle that would end its own script element.
    """
    text = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    lowered = text.lower()
    if "</script" in lowered or "<!--" in lowered:
        raise ValueError("the Vega bundle contains the end of a script element")
    return Markup(text)


@cache
def page_script() -> Markup:
    """What the page does by itself: contents, filter, dark and light, and figures that come alive."""
    return Markup((_FOLDER / "report.js").read_text(encoding="utf-8"))


def content_policy(scripts: list[Markup]) -> str:
    """A content security policy: these scripts by their hashes, styles and pictures inside the page, nothing else.

    No address may be read, no text may become a script, no form may be sent.
    """
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    allowed = f"script-src {hashes}" if scripts else "script-src 'none'"
    return (
        f"default-src 'none'; {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
