"""Prints docs/configuration.md from the schema: `python -m headgate.config.reference > docs/configuration.md`.

Keys, types and defaults come from the annotations, the text from the docstrings below the fields; a test holds the
page to the schema.
"""

from __future__ import annotations

import ast
import inspect
import sys
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from headgate.balancing.registry import BUILT_IN
from headgate.config import schema
from headgate.config.schema import FALSE_IS_NONE, Config, Pool, Struct
from headgate.config.values import Duration, Size, Whole, format_duration, format_size
from headgate.config.walk import fields_of, table_in

_INTRODUCTION = f"""\
# Configuration

<!-- Made by `python -m headgate.config.reference` from src/headgate/config/schema.py. Change it there. -->

A configuration is a TOML, JSON or YAML file; the suffix tells which, and the keys are the same in all three. YAML needs
`pip install 'headgate[yaml]'`, and is read as YAML 1.2 (`off` is a word, only `true` and `false` are truth values).
`headgate check -c FILE` looks it over; every mistake is reported at once, with its line. Examples stand in `examples/`.

The smallest one:

```toml
[[listeners]]
bind = "127.0.0.1:8080"

[pools.web]
backends = ["http://127.0.0.1:9001", "http://127.0.0.1:9002"]
```

A *listener* accepts clients. A *route* matches requests and names a *pool*. A pool has *backends*, and a *strategy*
that picks one of them.

- **Durations** are `"500ms"`, `"5s"`, `"2m"`, `"1h"`, `"1m30s"`, or a plain number of seconds. Where it says so,
  `"off"` means no limit.
- **Sizes** are `"64KiB"` (65,536 bytes), `"10MB"` (10,000,000 bytes), or a plain number of bytes.
- **`${{NAME}}`** in a string is replaced by the environment variable; `${{NAME:-default}}` has a default for one
  that is unset or empty; `$$` is a dollar sign. A variable that is not set is a mistake. Where a number is wanted, the
  text may spell one.
- **Strategies** that are built in: {", ".join(f"`{name}`" for name in BUILT_IN)}.
  A class of your own is `"package.module:Class"`, found in the working directory or in `--app-dir`.
"""


def render() -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, *_sections(Config, ""), ""])


def _sections(cls: type[Struct], path: str) -> Iterator[str]:
    docs = _field_docs(cls)
    heading = f"## `{path}`" if path else "## Top level"
    yield f"{heading}\n\n{_one_line(cls.__doc__ or '')}\n"
    yield "| key | value | default | |\n|---|---|---|---|"
    fields = {field.name: field for field in msgspec.structs.fields(cls)}
    for name, hint in fields_of(cls).items():
        default = _default(fields[name], hint)
        yield f"| `{name}` | {_cell(_kind(hint))} | {_cell(default)} | {_cell(docs[name])} |"
    yield ""
    for name, hint in fields_of(cls).items():
        inner = table_in(hint)
        if inner is not None:
            yield from _sections(inner, _inner_path(cls, path, name, hint))


def _inner_path(cls: type[Struct], path: str, name: str, hint: Any) -> str:
    if cls is Config:
        wrap = {"pools": "[pools.NAME]"}.get(name, f"[[{name}]]" if get_origin(hint) is tuple else f"[{name}]")
        return wrap
    return f"[{path.strip('[]')}.{name}]" if not (cls is Pool and name == "backends") else "[[pools.NAME.backends]]"


def _field_docs(cls: type[Struct]) -> dict[str, str]:
    """The docstrings below the fields of a table."""
    (definition,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(definition, ast.ClassDef)
    docs: dict[str, str] = {}
    name = ""
    for statement in definition.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
            docs[name] = ""
        elif name and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            docs[name] = _one_line(str(statement.value.value))
    return docs


def _kind(hint: Any) -> str:
    """What a key's value is, in words."""
    notes: list[Any] = []
    if get_origin(hint) is Annotated:
        hint, *notes = get_args(hint)
    for note in notes:
        if callable(note):
            expects = str(getattr(note, "expects", ""))
            return expects + (" or false" if FALSE_IS_NONE in notes and "false" not in expects else "")
    off = " or false" if FALSE_IS_NONE in notes else ""
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (arg for arg in get_args(hint) if arg is not types.NoneType)
    if get_origin(hint) is tuple:
        return f"a list; each {_kind(get_args(hint)[0])}"
    if get_origin(hint) is Literal:
        *most, last = (f'"{choice}"' for choice in get_args(hint))
        return f"{', '.join(most)} or {last}{off}"
    if get_origin(hint) is dict and table_in(hint) is not None:
        return "tables by name"
    if (table := table_in(hint)) is not None:
        return table.EXPECTS + off
    return {bool: "true or false"}.get(hint, "a table")


def _default(field: msgspec.structs.FieldInfo, hint: Any) -> str:
    if field.required:
        return "must be given"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    notes = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    for note in notes:
        if isinstance(note, schema.ReadHedgeAfter) and value == 0:
            return '`"off"`'
        if isinstance(note, (Duration, Size, Whole)) and value is not None:
            if value == 0 and note.__class__ is Whole and not note.off:
                return "`0`"
            text = format_duration(value) if isinstance(note, Duration) else f"{value}"
            text = format_size(value) if isinstance(note, Size) else text
            return '`"off"`' if value == 0 else (f"`{value}`" if isinstance(note, Whole) else f'`"{text}"`')
    if table_in(hint) is not None and not isinstance(value, (schema.Strategy, type(None))):
        return "as below" if isinstance(value, Struct) else "none"
    if value is None:
        return "`false`" if FALSE_IS_NONE in notes else "not set"
    if isinstance(value, schema.Strategy):
        return f'`"{value.name}"`'
    if value in ("", {}):
        return "not set" if value == "" else "none"
    return f"`{_toml(value)}`"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        if len(value) == 2 and all(isinstance(part, int) for part in value):  # a range of statuses
            return str(value[0]) if value[0] == value[1] else f'"{value[0]}-{value[1]}"'
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return str(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render())
