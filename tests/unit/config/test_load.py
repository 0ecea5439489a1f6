"""Files: three formats, one configuration; lines; the environment; what cannot be read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.config.environment import expand
from headgate.config.load import load
from headgate.config.locate import Lines
from headgate.config.problems import ConfigError, Key
from headgate.config.values import Wrong
from headgate.config.yaml_file import YamlFile

EXAMPLES = Path(__file__).parents[3] / "examples"


def problem(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    (only,) = caught.value.problems
    return str(only).replace(f"{path.parent}/", "")


@pytest.mark.parametrize(
    "path",
    sorted(path for path in EXAMPLES.iterdir() if path.suffix != ".py"),
    ids=lambda path: path.name,
)
def test_examples_are_good(path: Path) -> None:
    assert load(path, {}).pools


def test_the_formats_mean_the_same() -> None:
    toml, json_, yaml = (load(EXAMPLES / f"shop.{suffix}", {}) for suffix in ("toml", "json", "yaml"))
    assert toml == json_ == yaml
    assert toml.workers == 1


def test_the_environment_reaches_every_format() -> None:
    environ = {"HEADGATE_WORKERS": "3", "HEADGATE_BIND": ":80"}
    for suffix in ("toml", "json", "yaml"):
        config = load(EXAMPLES / f"shop.{suffix}", environ)
        assert (config.workers, config.listeners[0].bind.text) == (3, ":80")


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_BIND", "127.0.0.1:1")
    assert load(EXAMPLES / "shop.toml").listeners[0].bind.port == 1


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "directory.toml").mkdir()
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "digits.json").write_text("1" * 5000)
    (tmp_path / "two.yaml").write_text("a: 1\n---\nb: 1\n")
    (tmp_path / "control.yaml").write_text("a: 1\nb: \x01\n")
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf[]")
    assert problem(tmp_path / "missing.toml") == "missing.toml: cannot be read: No such file or directory"
    assert problem(tmp_path / "directory.toml") == "directory.toml: cannot be read: Is a directory"
    assert problem(tmp_path / "a\0b.toml") == "a\\0b.toml: cannot be read: not a file name"
    assert problem(tmp_path / "deep.json") == "deep.json: nested too deeply"
    assert problem(tmp_path / "digits.json").startswith("digits.json: not JSON: Exceeds the limit")
    assert problem(tmp_path / "two.yaml").startswith("two.yaml:2: not YAML: but found another document")
    assert problem(tmp_path / "control.yaml").startswith("control.yaml:2: not YAML: unacceptable character")
    assert problem(tmp_path / "bom.json") == "bom.json: expected a table, got a list"


def test_a_disk_is_not_a_configuration(tmp_path: Path) -> None:
    with (tmp_path / "large.toml").open("wb") as file:
        file.truncate(17 * 2**20)
    assert problem(tmp_path / "large.toml") == "large.toml: larger than 16 MiB: not a configuration"


def test_yaml_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "a.yaml").write_text("a: 1")
    assert problem(tmp_path / "a.yaml") == "a.yaml: reading YAML needs PyYAML (pip install 'headgate[yaml]')"


# --- the environment ---


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${A}", "b"),
        ("x${A}y${A}", "xbyb"),
        ("$${A}", "${A}"),
        ("$$", "$"),
        ("$A", "$A"),
        ("cost: 5$", "cost: 5$"),
        ("${EMPTY}", ""),
        ("${EMPTY:-d}", "d"),
        ("${NONE:-}", ""),
        ("${NONE:-http://a:1}", "http://a:1"),
        ("$$${A}", "$b"),
    ],
)
def test_expansion(text: str, expanded: str) -> None:
    assert expand(text, {"A": "b", "EMPTY": ""}) == expanded


@pytest.mark.parametrize("text", ["${NONE}", "${", "${}", "${A", "${1}", "${A:x}", "${A B}", "${a-b}"])
def test_no_expansion(text: str) -> None:
    with pytest.raises(Wrong):
        expand(text, {"A": "b"})


def test_a_value_is_not_expanded_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    strategy = {"name": "a:B", "x": "$${A}", "y": ["${A}"]}
    path.write_text(json.dumps({"listeners": [{"bind": ":1"}], "pools": {"p": {"backends": [], "strategy": strategy}}}))
    options = load(path, {"A": "${B}"}).pools["p"].strategy.options
    assert options == {"x": "${A}", "y": ["${B}"]}
    assert {type(options["x"]), type(options["y"][0])} == {str}


# --- lines ---

TOML = '''\
# comment with [brackets] = "x"
top = 1
dotted.key."with space" = 2
text = """
[not.a.table]
key = 1 \\""" """
raw = \'\'\'
a = '1'\'\'\'
after = 3

[[items]]
name = "a # not a comment"
list = [
  1, # one, two ]
  { x = 1, y = [2, 3] },
  "]",
]
[items.sub]
key = 1
[[items]]
name = 'C:\\'
[[items.deep]]
key = 1
[items.deep.er]
key = 2
["quoted \\u0041.b"]
key = 1
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("top",), 2),
        (("dotted", "key", "with space"), 3),
        (("text",), 4),
        (("raw",), 7),
        (("after",), 9),
        (("items", 0), 11),
        (("items", 0, "name"), 12),
        (("items", 0, "list"), 13),
        (("items", 0, "list", 0), 14),
        (("items", 0, "list", 1), 15),
        (("items", 0, "list", 1, "y", 1), 15),
        (("items", 0, "list", 2), 16),
        (("items", 0, "sub", "key"), 19),
        (("items", 1), 20),
        (("items", 1, "name"), 21),
        (("items", 1, "deep", 0, "key"), 23),
        (("items", 1, "deep", 0, "er", "key"), 25),
        (("quoted A.b", "key"), 27),
        (("items", 1, "missing"), 20),
        (("missing",), None),
    ],
)
def test_lines_of_toml(key: Key, line: int | None) -> None:
    assert Lines(TOML, toml=True).line_of(key) == line


def _leaves(tree: Any, key: Key = ()) -> list[tuple[Key, object]]:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if pairs is None:
        return [(key, tree)]
    return [leaf for name, value in pairs for leaf in _leaves(value, (*key, name))]


_json_trees = st.recursive(
    st.integers(10**6, 10**9) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
)


@given(_json_trees, st.booleans())
def test_lines_of_json(tree: object, ascii_only: bool) -> None:
    text = json.dumps(tree, indent=1, ensure_ascii=ascii_only)
    lines = Lines(text, toml=False)
    for key, value in _leaves(tree):
        if key:
            line = lines.line_of(key)
            assert line is not None
            assert json.dumps(value, ensure_ascii=ascii_only) in text.split("\n")[line - 1]
    assert lines.duplicates == []


@given(st.text(alphabet="[]{}=:,.\"'#\\\n ab1-"), st.booleans())
def test_lines_of_anything_at_all(text: str, toml: bool) -> None:
    """The scanner must come to an end, and find its own limits, on text that no parser accepted."""
    Lines(text, toml=toml).line_of(("a",))


def test_yaml_is_read_as_1_2() -> None:
    text = "a: off\non: 1\nb: 1:30\nc: 010\nd: 0x1F\ne: ~\nf: True\ng: 2020-01-01\nh: 1e3\ni: .inf\nj: yes\n"
    assert YamlFile(text).tree == {
        "a": "off", "on": 1, "b": "1:30", "c": 10, "d": 31, "e": None, "f": True,
        "g": "2020-01-01", "h": 1000.0, "i": float("inf"), "j": "yes",
    }  # fmt: skip


def test_lines_of_yaml() -> None:
    document = YamlFile("a:\n  - b: 1\n    c: &x {d: 1,\n      e: 2}\n  - *x\nf:\n  <<: *x\n")
    assert document.tree == {"a": [{"b": 1, "c": {"d": 1, "e": 2}}, {"d": 1, "e": 2}], "f": {"d": 1, "e": 2}}
    lines = {key: document.line_of(key) for key in [("a",), ("a", 0, "c", "e"), ("a", 1, "d"), ("f", "d"), ("g",)]}
    assert lines == {("a",): 1, ("a", 0, "c", "e"): 4, ("a", 1, "d"): 3, ("f", "d"): 3, ("g",): None}


def test_a_merged_yaml_key_may_be_replaced() -> None:
    document = YamlFile("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n")
    assert document.tree["b"] == {"x": 1, "y": 3}
    assert document.line_of(("b", "y")) == 4
    assert document.duplicates == []


def test_yaml_that_loops(tmp_path: Path) -> None:
    path = tmp_path / "loop.yaml"
    path.write_text("listeners: &x\n  - *x\npools: {web: {backends: [], strategy: &s {name: 'a:B', me: *s}}}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert [p.message for p in caught.value.problems] == ["expected a table, got a list", "nested too deeply"]


def test_yaml_that_explodes(tmp_path: Path) -> None:
    path = tmp_path / "laughs.yaml"
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20))
    path.write_text(f"a0: &a0 '$x'\n{levels}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert len(caught.value.problems) == 22
