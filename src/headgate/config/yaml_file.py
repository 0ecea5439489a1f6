"""Reads YAML with PyYAML, as YAML 1.2 means it, and knows the line of every key."""

from __future__ import annotations

import re
from typing import Any

import yaml

from headgate.config.problems import Key

_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """The safe loader with the core schema of YAML 1.2.

    PyYAML keeps to YAML 1.1, where `off` is false, `on:` is the key True, 1:30 is ninety and 010 is eight. A
    configuration that has `format: off`, `retry: {on: …}` and addresses cannot live with that.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (as PyYAML declares it)


for _name, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), list(_first))


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


_Loader.add_constructor(_TAG + "int", _construct_int)


class YamlFile:
    """One YAML document: `tree`, the line of each key in it, and the keys that stand in one table twice.

    Raises `yaml.YAMLError` for text that is not YAML, and ValueError for a number that is none.
    """

    def __init__(self, text: str) -> None:
        loader = _Loader(text)
        try:
            self._root: Any = loader.get_single_node()
            # Before the tree is made: merging ("<<") writes the merged keys into the nodes, beside those they yield to.
            self.duplicates = _duplicates(self._root)
            self.tree: Any = None if self._root is None else loader.construct_document(self._root)
        finally:
            loader.dispose()

    def line_of(self, key: Key) -> int | None:
        """The line of a key, or of the nearest table around it."""
        line, node = None, self._root
        for part in key:
            if isinstance(part, int) and isinstance(node, yaml.SequenceNode) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
                continue
            pairs = node.value if isinstance(node, yaml.MappingNode) else ()
            found = [pair for pair in pairs if pair[0].value == part]
            if not found:
                break
            line, node = found[-1][0].start_mark.line + 1, found[-1][1]  # the last: merged keys come first
        return line


def _duplicates(root: Any) -> list[tuple[Key, int]]:
    """Keys that stand in one table twice, with the line of the second; YAML forbids them, PyYAML takes the last."""
    found: list[tuple[Key, int]] = []
    seen: set[int] = set()
    waiting: list[tuple[Any, Key]] = [(root, ())]
    while waiting:
        node, key = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend((item, (*key, index)) for index, item in enumerate(node.value))
        elif isinstance(node, yaml.MappingNode):
            names = set()
            for name, value in node.value:
                inner = (*key, str(name.value))
                if isinstance(name, yaml.ScalarNode) and name.value in names:
                    found.append((inner, name.start_mark.line + 1))
                elif isinstance(name, yaml.ScalarNode):
                    names.add(name.value)
                waiting.append((value, inner))
    return found
