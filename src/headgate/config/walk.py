"""Turns a raw tree into the schema's types, by their annotations alone, and collects every mistake on the way.

msgspec converts too, but stops at the first mistake; a person who moves a configuration here has five. What is wrong is
left out of the result (so its default stands in), and the checks that concern several keys go on with the rest.
"""

from __future__ import annotations

import types
from functools import cache
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from headgate.config.environment import Expanded
from headgate.config.problems import Key, Problems, did_you_mean, key_text
from headgate.config.schema import FALSE_IS_NONE, PoolTimeouts, Struct
from headgate.config.values import Reader, Wrong, kind_of, quoted


class _Invalid:
    """What stands for a value that could not be read."""


INVALID: Final = _Invalid()
_DEPTH = 32  # of a user's own options; deeper is a loop made of YAML aliases
_MISSING_HINT = {"backends": 'such as ["http://127.0.0.1:9001"]', "bind": 'such as "127.0.0.1:8080"'}


@cache
def fields_of(cls: type[Struct]) -> dict[str, Any]:
    """Name and annotation of every field of a table."""
    hints = get_type_hints(cls, include_extras=True)
    return {name: hints[name] for name in cls.__struct_fields__}


@cache
def required_of(cls: type[Struct]) -> tuple[str, ...]:
    """Names of the fields that a table cannot do without."""
    return tuple(field.name for field in msgspec.structs.fields(cls) if field.required)


def table_in(hint: Any) -> type[Struct] | None:
    """The table an annotation speaks of, however it is wrapped; None where it speaks of none."""
    if isinstance(hint, type) and issubclass(hint, Struct):
        return hint
    return next((found for arg in get_args(hint) if (found := table_in(arg)) is not None), None)


class Walker:
    """Converts one tree. `where` tells afterwards at which key a table of the result stood."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._where: dict[int, tuple[Struct, Key]] = {}

    def where(self, table: Struct) -> Key:
        """The key at which this very object stood; () for one that is a default."""
        return self._where.get(id(table), (table, ()))[1]

    def table(self, cls: type[Struct], raw: object, key: Key, above: tuple[type[Struct], ...] = ()) -> Any:
        """A table of the schema from a raw one; INVALID when a key it cannot do without is missing or wrong."""
        if (shorthand := getattr(cls, "expand", None)) is not None:
            try:
                raw = shorthand(raw)
            except Wrong as wrong:
                return self._wrong(key, wrong)
        if not isinstance(raw, dict):
            return self._wrong(key, Wrong(f"expected {cls.EXPECTS}, got {kind_of(raw)}"))
        fields = fields_of(cls)
        values: dict[str, Any] = {}
        for name, value in raw.items():
            if name in fields:
                values[name] = self.value(fields[name], value, (*key, name), (*above, cls))
            else:
                self._unknown(cls, name, key, above)
        required = required_of(cls)
        for name in required:
            if name not in values:
                self._problems.add((*key, name), "is missing", _MISSING_HINT.get(name, ""))
        if any(values.get(name, INVALID) is INVALID for name in required):
            return INVALID
        made = cls(**{name: value for name, value in values.items() if value is not INVALID})
        self._where[id(made)] = (made, key)
        return made

    def value(self, hint: Any, raw: object, key: Key, above: tuple[type[Struct], ...]) -> Any:
        """A value of an annotation's type from a raw one; INVALID (and a problem) when it cannot be."""
        if isinstance(raw, str) and self._problems.touches(key):
            return INVALID  # a reference in it could not be expanded
        literal = None
        if isinstance(raw, Expanded):
            raw = str(raw)
            literal = _literal(raw)
        try:
            return self._read(hint, raw, key, above)
        except Wrong as wrong:
            if literal is None:
                return self._wrong(key, wrong)
        # "${WORKERS}" is text, and text will not do here: read it as the number it spells.
        try:
            return self._read(hint, literal, key, above)
        except Wrong as wrong:
            return self._wrong(key, wrong)

    def _read(self, hint: Any, raw: object, key: Key, above: tuple[type[Struct], ...]) -> Any:
        if raw is None:
            raise Wrong("has no value")
        if get_origin(hint) is Annotated:
            hint, *notes = get_args(hint)
            if FALSE_IS_NONE in notes and (raw is False or raw == "off"):
                return None
            for note in notes:
                if callable(note):
                    return cast(Reader, note)(raw)
        if get_origin(hint) in (Union, types.UnionType):  # X | None: None is what `false`, or nothing, gave
            (hint,) = (arg for arg in get_args(hint) if arg is not type(None))
        origin = get_origin(hint)
        if isinstance(hint, type) and issubclass(hint, Struct):
            return self.table(hint, raw, key, above)
        if origin is tuple:
            return self._list(get_args(hint)[0], raw, key, above)
        if origin is dict:
            name_hint, value_hint = get_args(hint)
            return self._mapping(name_hint, value_hint, raw, key, above)
        if origin is Literal:
            return _choice(get_args(hint), raw)
        if hint is Any:
            return self._plain(raw, _DEPTH)
        if hint is bool:
            if isinstance(raw, bool):
                return raw
            raise Wrong(f"expected true or false, got {kind_of(raw)}")
        raise TypeError(f"no way to read {hint!r}")  # a mistake in the schema, found by its own test

    def _list(self, item: Any, raw: object, key: Key, above: tuple[type[Struct], ...]) -> Any:
        if not isinstance(raw, (list, tuple)):
            table = table_in(item)
            hint = "write it as [[" + str(key[-1]) + "]]" if isinstance(raw, dict) and table else "put it in [ ]"
            raise Wrong(f"expected a list, got {kind_of(raw)}", hint)
        values = [self.value(item, value, (*key, index), above) for index, value in enumerate(raw)]
        return tuple(value for value in values if value is not INVALID)

    def _mapping(self, name: Any, item: Any, raw: object, key: Key, above: tuple[type[Struct], ...]) -> Any:
        if not isinstance(raw, dict):
            raise Wrong(f"expected a table, got {kind_of(raw)}")
        result = {}
        for raw_name, raw_value in raw.items():
            shown = raw_name if isinstance(raw_name, str) else str(raw_name)
            made = self.value(name, raw_name, (*key, shown), above) if get_origin(name) is Annotated else raw_name
            if not isinstance(raw_name, str):
                self._problems.add((*key, shown), "a name must be a string")
                continue
            value = self.value(item, raw_value, (*key, shown), above)
            if made is not INVALID and value is not INVALID:
                result[made] = value
        return result

    def _plain(self, raw: object, depth: int) -> Any:
        """An option of a user's strategy: whatever survives the way to a worker, as msgpack."""
        if depth == 0:
            raise Wrong("nested too deeply")
        if isinstance(raw, (list, tuple)):
            return [self._plain(value, depth - 1) for value in raw]
        if isinstance(raw, dict):
            for name in raw:
                if not isinstance(name, str):
                    raise Wrong("a name must be a string")
                _check_text(name)
            return {name: self._plain(value, depth - 1) for name, value in raw.items()}
        if isinstance(raw, str):
            _check_text(raw)
            return str(raw)
        if isinstance(raw, int) and not -(2**63) <= raw < 2**63:
            raise Wrong("a number beyond 64 bits")
        elif raw is not None and not isinstance(raw, (bool, int, float)):
            raise Wrong(f"an option cannot be {kind_of(raw)}")
        return raw

    def _wrong(self, key: Key, wrong: Wrong) -> _Invalid:
        self._problems.add(key, wrong.message, wrong.suggestion)
        return INVALID

    def _unknown(self, cls: type[Struct], name: object, key: Key, above: tuple[type[Struct], ...]) -> None:
        if not isinstance(name, str):
            self._problems.add((*key, str(name)), "unknown key")
        elif cls is PoolTimeouts and name == "queue":
            # It would stand here with all other timeouts, and stands beside the queue's size: one place is enough.
            hint = f'write it as "{key_text((*key[:-1], "queue", "timeout"))}"'
            self._problems.add((*key, name), "is set where the queue is", hint)
        else:
            self._problems.add((*key, name), "unknown key", _meant_key(cls, name, key, above))


def _meant_key(cls: type[Struct], name: str, key: Key, above: tuple[type[Struct], ...]) -> str:
    """What an unknown key was meant to be: a word misspelt, or a good word one table too high or too low."""
    fields = fields_of(cls)
    folded = name.lower().replace("-", "_")
    if folded in fields:
        return f'did you mean "{folded}"?'
    for field, hint in fields.items():
        inner = table_in(hint)
        if inner is not None and get_origin(hint) is not tuple and name in fields_of(inner):
            return f'did you mean "{field}.{name}"?'
    if above and name in fields_of(above[-1]) and len(key) > 1:
        return f'did you mean "{key_text((*key[:-1], name))}"?'
    return did_you_mean(name, fields)


def _literal(text: str) -> bool | int | float | None:
    """The number or truth value that a text spells; None when it spells none."""
    if text in ("true", "false"):
        return text == "true"
    for read in (int, float):
        try:
            return read(text) if text.isascii() and "_" not in text and text == text.strip() else None
        except ValueError:
            continue
    return None


def _choice(choices: tuple[str, ...], raw: object) -> str:
    if raw is False and "off" in choices:
        return "off"
    if isinstance(raw, str) and raw in choices:
        return raw
    *most, last = (f'"{choice}"' for choice in choices)
    expected = f"expected {', '.join(most)} or {last}"
    if not isinstance(raw, str):
        raise Wrong(f"{expected}, got {kind_of(raw)}")
    raise Wrong(f"{expected}, got {quoted(raw)}", did_you_mean(raw, choices))


def _check_text(text: str) -> None:
    if not text.isprintable() and any("\ud800" <= c <= "\udfff" for c in text):
        raise Wrong(f"{quoted(text)} is not valid Unicode")
