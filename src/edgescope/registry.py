"""Things by name: registries that suggest the nearest name, and one small text form, ``name:key=value,key=value``."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from edgescope.errors import InputError, UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """A table of classes by name. Each class is a dataclass whose fields are its options.

    ``Registry("model").add("mlp", MLP)`` is the one line that makes a thing known; a user's own module may call it
    too. ``build("mlp:widths=200x200,activation=tanh")`` reads the text form and returns the configured object.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._things: dict[str, type[T]] = {}

    def add(self, name: str, thing: type[T]) -> type[T]:
        """Make ``thing`` known as ``name``; a name may be taken again, the last one wins (reloads, overrides)."""
        self._things[name] = thing
        return thing

    def names(self) -> list[str]:
        return sorted(self._things)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __getitem__(self, name: str) -> type[T]:
        if name in self._things:
            return self._things[name]
        near = difflib.get_close_matches(name, self._things, n=1, cutoff=0.5)
        raise UnknownNameError(
            f"unknown {self.kind} '{name}'",
            expected=f"one of {', '.join(self.names())}",
            hint=f"'{near[0]}'" if near else None,
        )

    def build(self, spec: str, **defaults: Any) -> T:
        """The thing that ``spec`` describes; ``defaults`` fill options that it leaves out and that the class has."""
        name, given = self.parse(spec)
        thing = self[name]
        known = {f.name for f in dataclasses.fields(thing) if f.init}  # type: ignore[arg-type]
        options = {k: v for k, v in defaults.items() if k in known and v is not None} | given
        return thing(**options)

    def parse(self, spec: str) -> tuple[str, dict[str, Any]]:
        """``"mlp:widths=200x200"`` as ``("mlp", {"widths": (200, 200)})``, typed by the fields of the class.

        An option without ``=`` is the first field: ``text:notes.txt`` is ``text:path=notes.txt``.
        """
        name, _, rest = spec.partition(":")
        thing = self[name.strip()]
        fields = {f.name: f for f in dataclasses.fields(thing) if f.init}  # type: ignore[arg-type]
        hints = typing.get_type_hints(thing)
        options: dict[str, Any] = {}
        for position, piece in enumerate(p for p in rest.split(",") if p.strip()):
            key, equals, text = piece.partition("=")
            if not equals and position == 0 and fields:
                key, text = next(iter(fields)), piece
            key = key.strip().replace("-", "_")
            if key not in fields or (not equals and position > 0):
                near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
                raise UnknownNameError(
                    f"{self.kind} '{name}' has no option '{key}'",
                    expected=f"one of {', '.join(fields)}" if fields else "no options",
                    hint=f"'{near[0]}='" if near else None,
                )
            options[key] = _read(text.strip(), hints[key], f"option '{key}' of {self.kind} '{name}'")
        return name.strip(), options


def _read(text: str, hint: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if text.lower() == "none" and type(None) in arguments:
            return None
        kinds = [a for a in arguments if a is not type(None)]
        for i, kind in enumerate(kinds):
            try:
                return _read(text, kind, where)
            except InputError:
                if i == len(kinds) - 1:
                    raise
    if origin is tuple:
        return tuple(_read(piece, arguments[0], where) for piece in text.split("x") if piece)
    if origin is typing.Literal:
        if text in arguments:
            return text
        near = difflib.get_close_matches(text, [str(a) for a in arguments], n=1)
        raise InputError(
            f"{where} is '{text}'",
            expected=f"one of {', '.join(map(str, arguments))}",
            hint=f"'{near[0]}'" if near else None,
        )
    try:
        if hint is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if hint in (int, float, str):
            return hint(text)
    except (ValueError, KeyError) as error:
        kind = {bool: "true or false", int: "a whole number", float: "a number"}[hint]
        raise InputError(f"{where} is '{text}'", expected=kind) from error
    raise InputError(f"{where} cannot be given as text (its type is {hint})")
