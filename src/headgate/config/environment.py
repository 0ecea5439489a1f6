"""`${NAME}` and `${NAME:-default}` in the strings of a configuration file."""

from __future__ import annotations

import re
from collections.abc import Mapping

from headgate.config.problems import Key, Problems
from headgate.config.values import Wrong

_REFERENCE = re.compile(r"\$(?:\$|\{([^{}]*)\}|(\{))")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(:-(.*))?", re.DOTALL)


def expand(text: str, environ: Mapping[str, str]) -> str:
    """The text with its references replaced; "$$" gives "$", any other "$" stands for itself.

    As in a shell, the default is taken when the variable is unset or empty. Raises `Wrong` for a variable that is not
    set and has no default, and for a reference that is not one.
    """

    def replace(match: re.Match[str]) -> str:
        inside = match[1]
        if match[0] == "$$":
            return "$"
        if inside is None:
            raise Wrong('"${" without "}"', 'write "$$" for a dollar sign')
        reference = _NAME.fullmatch(inside)
        if reference is None:
            raise Wrong(f'"${{{inside}}}" does not name an environment variable', 'write "$$" for a dollar sign')
        name, has_default, default = reference[1], reference[2] is not None, reference[3]
        if has_default:
            return environ.get(name) or default
        if name not in environ:
            raise Wrong(f"the environment variable {name} is not set", f'"${{{name}:-…}}" gives it a default')
        return environ[name]

    return _REFERENCE.sub(replace, text)


class Expanded(str):
    """Text that came out of a reference: it may stand where a number is wanted, as in `workers = "${WORKERS}"`."""

    __slots__ = ()


_DEPTH = 64  # deeper than any key of the schema; what lies below is never used


def expand_tree(tree: object, environ: Mapping[str, str], problems: Problems) -> object:
    """A copy of a raw tree with all its strings expanded, as `Expanded` where that changed them. Keys stay as they
    are.

    Containers that occur twice (YAML aliases) are copied once, so that neither loops nor doubling aliases cost
    anything.
    """
    seen: dict[int, object] = {}

    def copy(raw: object, key: Key) -> object:
        if isinstance(raw, str):
            if "$" not in raw:
                return raw
            try:
                return Expanded(expand(raw, environ))
            except Wrong as wrong:
                problems.add(key, wrong.message, wrong.suggestion)
                return raw
        if not isinstance(raw, (list, dict)) or len(key) > _DEPTH:
            return raw
        if id(raw) not in seen:
            if isinstance(raw, list):
                items: list[object] = []
                seen[id(raw)] = items
                items.extend(copy(value, (*key, index)) for index, value in enumerate(raw))
            else:
                table: dict[object, object] = {}
                seen[id(raw)] = table
                table.update((name, copy(value, (*key, str(name)))) for name, value in raw.items())
        return seen[id(raw)]

    return copy(tree, ())
