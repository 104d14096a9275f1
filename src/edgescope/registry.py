"""Registries of classes by name, and their text form ``name:key=value,key=value``, with suggestions of near names."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from edgescope.errors import InputError, UnknownNameError
from edgescope.near_names import nearest, suggestion
from edgescope.options import check_choice, refusal, shown
from edgescope.short_errors import short_construction, short_errors

T = TypeVar("T")


@short_errors
class Registry(Generic[T]):
    """A table of classes by name. Each class is a dataclass whose fields are its options, and which checks their values
    in ``__post_init__`` (:func:`edgescope.options.check_fields`).

    ``Registry("model").add("mlp", MLP)`` registers a class; user modules may call it too.
    ``build("mlp:widths=200x200,activation=tanh")`` parses the text form and returns the configured object.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, type[T]] = {}

    def add(self, name: str, entry: type[T]) -> type[T]:
        """Register the class ``entry`` as ``name``; a later registration of the same name replaces it."""
        short_construction(entry)
        self._entries[name] = entry
        return entry

    def names(self) -> list[str]:
        return sorted(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> type[T]:
        if name in self._entries:
            return self._entries[name]
        raise UnknownNameError(
            f"unknown {self.kind} {shown(name)}",
            expected=f"one of {', '.join(self.names())}",
            hint=suggestion(name, self._entries),
        )

    def build(self, spec: str, **defaults: Any) -> T:
        """The object that ``spec`` describes; ``defaults`` apply to options of the class that ``spec`` does not give.

        Raises only :class:`InputError`, for a name, an option or a value that cannot be used.
        """
        name, given = self.parse(spec)
        entry = self[name]
        fields = _options_of(entry)
        options = {k: v for k, v in defaults.items() if k in fields and v is not None} | given
        for option, field in fields.items():
            if option not in options and field.default is field.default_factory is dataclasses.MISSING:
                raise InputError(f"{self.kind} '{name}' without option '{option}'", hint=f"'{name}:{option}=...'")
        return entry(**options)

    def parse(self, spec: str) -> tuple[str, dict[str, Any]]:
        """``"mlp:widths=200x200"`` as ``("mlp", {"widths": (200, 200)})``, typed by the fields of the class.

        An option without ``=`` is the first field: ``text:notes.txt`` is ``text:path=notes.txt``.
        """
        if not isinstance(spec, str):
            raise InputError(f"a {self.kind} given as a {type(spec).__name__}", expected="its name, with options")
        name, _, rest = spec.partition(":")
        name = name.strip()
        entry = self[name]
        fields = _options_of(entry)
        hints = typing.get_type_hints(entry)
        options: dict[str, Any] = {}
        for position, piece in enumerate(p for p in rest.split(",") if p.strip()):
            key, equals, text = piece.partition("=")
            if not equals and position == 0 and fields:
                key, text = next(iter(fields)), piece
            key = key.strip().replace("-", "_")
            renamed: dict[str, str] = getattr(entry, "renamed_options", {})
            if key in renamed:
                raise UnknownNameError(f"{self.kind} '{name}' has no option '{key}' any more", expected=renamed[key])
            if key not in fields or (not equals and position > 0):
                near = nearest(key, fields)
                raise UnknownNameError(
                    f"{self.kind} '{name}' has no option {shown(key)}",
                    expected=f"one of {', '.join(fields)}" if fields else "no options",
                    hint=f"'{near}='" if near else None,
                )
            if key in options:
                raise InputError(f"option '{key}' of {self.kind} '{name}' was given twice", expected="each once")
            options[key] = _read(text.strip(), hints[key], f"{self.kind} '{name}'", key)
        return name, options


def _options_of(entry: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """The fields that are options; none for a class that is not a dataclass."""
    return {f.name: f for f in dataclasses.fields(entry) if f.init} if dataclasses.is_dataclass(entry) else {}


def _read(text: str, hint: Any, owner: str, name: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if text.lower() == "none" and type(None) in arguments:
            return None
        kinds = [a for a in arguments if a is not type(None)]
        for i, kind in enumerate(kinds):
            try:
                return _read(text, kind, owner, name)
            except InputError:
                if i == len(kinds) - 1:
                    raise
    if origin is tuple and arguments[0] is str:  # texts may have an x in them
        return tuple(piece.strip() for piece in text.split(";")) if text else ()
    if origin is tuple:
        try:
            return tuple(_read(piece, arguments[0], owner, name) for piece in text.split("x")) if text else ()
        except InputError as error:
            kind = {int: "whole numbers", float: "numbers"}.get(arguments[0], "values")
            raise refusal(owner, name, text, f"{kind} joined by x") from error
    if origin is typing.Literal:
        return check_choice(owner, name, text, known=arguments)
    try:
        if hint is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if hint in (int, float, str):
            return hint(text)
    except (ValueError, KeyError) as error:
        kind = {bool: "true or false", int: "a whole number", float: "a number"}[hint]
        raise refusal(owner, name, text, kind) from error
    raise InputError(f"option '{name}' of {owner} cannot be given as text (its type is {hint})")
