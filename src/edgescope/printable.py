"""Text from elsewhere as it may be shown: nothing in it moves the cursor, breaks a line or turns its direction."""

from __future__ import annotations

import itertools
import shlex
import unicodedata
from collections.abc import Iterable


def printable(text: str, keep: str = "") -> str:
    r"""``text`` with what has no shape of its own written out: ``\x1b``, ``\n``, ``\u202e``; but not those in ``keep``.

    Written out are control characters (which a terminal would carry out), line and paragraph separators, format
    characters (which turn the direction of what follows, or are not seen), surrogates and what Unicode has not
    assigned. Bytes of a file name that are no text, which Python keeps as surrogates, become ``\xff``.
    """
    if text.isprintable():
        return text
    return "".join(c if c in keep or _is_shown(c) else _written_out(c) for c in text)


def printable_names(names: Iterable[str]) -> list[str]:
    """:func:`printable` of each name; one that would be shown as another before it gets a number."""
    shown: list[str] = []
    for name in map(printable, names):
        numbered = (f"{name} ({number})" for number in itertools.count(2))
        shown.append(name if name not in shown else next(other for other in numbered if other not in shown))
    return shown


def shell_quoted(words: Iterable[str]) -> str:
    r"""A command line to copy, in one line: as :func:`shlex.join`, and ``$'\x1b'`` for what cannot be shown."""
    return " ".join(
        shlex.quote(word)
        if printable(word) == word
        else f"""$'{printable(word.translate({ord("'"): chr(92) + "'", 92: chr(92) * 2}))}'"""
        for word in words
    )


def _is_shown(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _written_out(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
