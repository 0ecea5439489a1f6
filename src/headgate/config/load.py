"""Reads a configuration file: TOML, JSON or YAML, told apart by its suffix, all with the same keys."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import NoReturn

from headgate.config.locate import Lines
from headgate.config.problems import ConfigError, Key, Problem, key_text
from headgate.config.schema import Config
from headgate.config.validate import validate
from headgate.config.values import quoted

# The largest configuration in sight (5,000 backends, 4,000 routes) is below 1 MiB; a wrong path may be a disk.
_LARGEST = 16 * 2**20

LineOf = Callable[[Key], int | None]


def load(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> Config:
    """The configuration in a file; raises `ConfigError` with every mistake in it.

    `${NAME}` is taken from `environ`, which is the process's own environment where None.
    """
    return load_with_lines(path, environ)[0]


def load_with_lines(
    path: str | os.PathLike[str], environ: Mapping[str, str] | None = None
) -> tuple[Config, Callable[[Key], int | None]]:
    """As `load`, with a function that tells the line of a key, for mistakes that are found later."""
    file = os.fspath(path)
    tree, line_of = _parse(file, _read(file))
    config = validate(tree, file=file, line_of=line_of, environ=os.environ if environ is None else environ)
    return config, line_of


def _fail(file: str, message: str, suggestion: str = "", line: int | None = None, key: str = "") -> NoReturn:
    raise ConfigError([Problem(file, line, key, message, suggestion)])


def _read(file: str) -> str:
    try:
        with open(file, "rb") as source:
            data = source.read(_LARGEST + 1)
    except OSError as error:
        _fail(file, f"cannot be read: {error.strerror}")
    except ValueError:  # a NUL in the name
        _fail(file.replace("\0", "\\0"), "cannot be read: not a file name")
    if len(data) > _LARGEST:
        _fail(file, "larger than 16 MiB: not a configuration")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        _fail(file, f"not UTF-8: byte 0x{data[error.start]:02x}", "save the file as UTF-8", line)
    if not text.strip():
        _fail(file, "the file is empty", "examples/ has configurations to start from")
    return text


def _parse(file: str, text: str) -> tuple[object, LineOf]:
    suffix = Path(file).suffix.lower()
    parsers = {".toml": _toml, ".json": _json, ".yaml": _yaml, ".yml": _yaml}
    if suffix not in parsers:
        shown = f"a file named {quoted(suffix)}" if suffix else "a file without a suffix"
        _fail(file, f"cannot tell the format of {shown}", "name it .toml, .json or .yaml")
    try:
        tree, line_of, duplicates = parsers[suffix](file, text)
    except RecursionError:
        _fail(file, "nested too deeply")
    if duplicates:
        raise ConfigError(Problem(file, line, key_text(key), "given twice in one table") for key, line in duplicates)
    if tree is None:
        _fail(file, "the file is empty", "examples/ has configurations to start from")
    return tree, line_of


_Parsed = tuple[object, LineOf, list[tuple[Key, int]]]


def _toml(file: str, text: str) -> _Parsed:
    try:
        tree = tomllib.loads(text)
    except ValueError as error:
        message = str(error)
        place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
        line = None
        if place is not None:
            message = message[: place.start()]
            line = int(place[1]) if place[1] else text.rstrip().count("\n") + 1
        _fail(file, f"not TOML: {message[:1].lower()}{message[1:]}", line=line)
    lines = cache(lambda: Lines(text, toml=True))  # scanned when something is wrong, and only then
    return tree, lambda key: lines().line_of(key), []


def _json(file: str, text: str) -> _Parsed:
    twice = False

    def table(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal twice
        made = dict(pairs)
        twice = twice or len(made) != len(pairs)
        return made

    try:
        tree = json.loads(text, object_pairs_hook=table)
    except json.JSONDecodeError as error:
        _fail(file, f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}", line=error.lineno)
    except ValueError as error:  # a number of more digits than Python reads
        _fail(file, f"not JSON: {error}")
    lines = cache(lambda: Lines(text, toml=False))  # as above: it takes longer than all the rest
    return tree, lambda key: lines().line_of(key), lines().duplicates if twice else []


def _yaml(file: str, text: str) -> _Parsed:
    try:
        import yaml

        from headgate.config.yaml_file import YamlFile
    except ModuleNotFoundError:
        _fail(file, "reading YAML needs PyYAML", "pip install 'headgate[yaml]'")
    try:
        document = YamlFile(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        _fail(file, f"not YAML: {error.problem or error.context}", line=mark.line + 1 if mark else None)
    except (yaml.YAMLError, ValueError) as error:
        line = text.count("\n", 0, error.position) + 1 if isinstance(error, yaml.reader.ReaderError) else None
        _fail(file, f"not YAML: {str(error).splitlines()[0]}", line=line)
    return document.tree, document.line_of, document.duplicates
