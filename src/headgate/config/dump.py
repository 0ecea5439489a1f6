"""A configuration as a tree of plain values with the keys of a file: what `GET /config` shows.

With nothing masked, `validate(dump(config, mask=False))` gives the same configuration again.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args, get_origin

import msgspec

from headgate.config.addresses import BackendUrl, Bind
from headgate.config.schema import FALSE_IS_NONE, HTTP_CHECK_KEYS, Health, Strategy, Struct
from headgate.config.values import Duration, Size, StatusRange, format_duration, format_size
from headgate.config.walk import fields_of

MASK = "***"
_SECRET_KEYS = {"secret", "token"}
# Of a strategy of the user's own, whose options nobody here knows.
_SECRET_OPTION = re.compile(r"secret|token|passw|credential|api_?key", re.IGNORECASE)


def dump(table: Struct, *, mask: bool = True) -> dict[str, Any]:
    """A table of the schema as a plain one.

    mask: for people: secrets, and the values of header fields, become "***", and defaults are told as well. Without it
    what is as by default is left out, since some keys may be given only beside others.
    """
    tree: dict[str, Any] = {}
    defaults = {} if mask else {field.name: field.default for field in msgspec.structs.fields(table)}
    for name, hint in fields_of(type(table)).items():
        value = getattr(table, name)
        if name in defaults and value == defaults[name] and type(value) is type(defaults[name]):
            continue
        if isinstance(table, Health) and table.type != "http" and name in HTTP_CHECK_KEYS:
            continue  # they say nothing there, and a file that had them would be refused
        notes = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        if value is None:
            if FALSE_IS_NONE in notes or any("false" in str(getattr(note, "expects", "")) for note in notes):
                tree[name] = False  # off; what is merely not set is left out
            continue
        if mask and value and name in _SECRET_KEYS:
            tree[name] = MASK
        elif mask and name == "headers" and isinstance(value, dict):
            tree[name] = dict.fromkeys(value, MASK)
        elif isinstance(table, Strategy) and name == "options":
            tree[name] = {key: MASK if mask and _SECRET_OPTION.search(key) else option for key, option in value.items()}
        elif value == "" and not isinstance(value, Struct):
            continue  # not set
        else:
            tree[name] = _plain(value, hint, notes, mask)
    return tree


def _plain(value: Any, hint: Any, notes: tuple[Any, ...], mask: bool) -> Any:
    for note in notes:
        # A reader that knows "off" makes 0 of it.
        if value == 0 and not isinstance(value, bool) and '"off"' in str(getattr(note, "expects", "")):
            return "off"
        if isinstance(note, Duration):
            return format_duration(value)
        if isinstance(note, Size):
            return format_size(value)
        if isinstance(note, StatusRange):
            return value[0] if value[0] == value[1] else f"{value[0]}-{value[1]}"
    if isinstance(value, (Bind, BackendUrl)):
        return value.text
    if isinstance(value, Struct):
        return dump(value, mask=mask)
    if isinstance(value, tuple):
        item = _item_hint(hint)
        item_notes = get_args(item)[1:] if get_origin(item) is Annotated else ()
        return [_plain(one, item, item_notes, mask) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one, Any, (), mask) for name, one in value.items()}
    return msgspec.to_builtins(value)


def _item_hint(hint: Any) -> Any:
    """Of `tuple[X, ...]`, however it is wrapped."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return get_args(hint)[0] if get_origin(hint) is tuple else Any
