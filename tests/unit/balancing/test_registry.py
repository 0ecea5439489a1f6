from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from headgate.balancing import registry
from headgate.balancing.registry import BUILT_IN, StrategyInvalid, StrategyNotFound, build, names, resolve
from headgate.balancing.round_robin import RoundRobin

from .fakes import context

MODULE = '''
class Plain:
    """Takes nothing."""
    def update(self, backends): self.backends = list(backends)
    def pick(self, request, tried): return self.backends[0]

class WithContext(Plain):
    def __init__(self, context): self.context = context

class WithOptions(Plain):
    def __init__(self, header, *, context=None, depth=2): self.header, self.depth, self.context = header, depth, context

class Annotated(Plain):
    def __init__(self, world: "base.Context", /, **options): self.world, self.options = world, options

class ContextFirst(Plain):
    def __init__(self, context=None, depth=2): self.context, self.depth = context, depth

class Picky(Plain):
    def __init__(self, depth):
        if depth < 1: raise ValueError("depth is at least 1")

class NoPick:
    def update(self, backends): pass

def factory(context): return Plain()
def wrong(context): return 3
NUMBER = 3
'''


@pytest.fixture
def app_dir(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "my_strategies.py").write_text(MODULE)
    (tmp_path / "broken_strategies.py").write_text("import no_such_module_anywhere\n")
    (tmp_path / "failing_strategies.py").write_text("1 / 0\n")
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in ("my_strategies", "broken_strategies", "failing_strategies"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_name_resolves(name: str) -> None:
    factory = resolve(name)
    assert f"{factory.__module__}:{factory.__qualname__}" == BUILT_IN[name]


def test_the_package_offers_the_same_names_as_entry_points() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["headgate.strategies"] == BUILT_IN


def test_a_class_in_the_users_own_module(app_dir: Path) -> None:
    strategy = build("my_strategies:Plain", context(), app_dir=app_dir)
    assert type(strategy).__name__ == "Plain"
    assert sys.path[0] == str(app_dir)
    build("my_strategies:Plain", context(), app_dir=app_dir)
    assert sys.path.count(str(app_dir)) == 1


@pytest.mark.parametrize(
    ("spec", "options", "expected"),
    [
        ("WithContext", {}, {"context": "CONTEXT"}),
        ("WithOptions", {"header": "x"}, {"header": "x", "depth": 2, "context": "CONTEXT"}),
        ("WithOptions", {"header": "x", "depth": 5}, {"header": "x", "depth": 5, "context": "CONTEXT"}),
        ("Annotated", {"depth": 5}, {"world": "CONTEXT", "options": {"depth": 5}}),
        ("ContextFirst", {"depth": 5}, {"context": "CONTEXT", "depth": 5}),
    ],
)
def test_the_signature_decides_what_it_is_given(
    app_dir: Path, spec: str, options: dict[str, object], expected: dict[str, object]
) -> None:
    world = context()
    strategy = build(f"my_strategies:{spec}", world, options, app_dir)
    assert vars(strategy) == {name: world if value == "CONTEXT" else value for name, value in expected.items()}


def test_a_factory_function_will_do(app_dir: Path) -> None:
    assert type(build("my_strategies:factory", context(), app_dir=app_dir)).__name__ == "Plain"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("round_robbin", "did you mean 'round_robin'"),
        ("zzz", "there are round_robin, weighted_round_robin"),
        ("my_strategies:Plane", "did you mean 'Plain'"),
        ("my_strategy:Plain", "there is no module 'my_strategy'"),
        ("my_strategies.deep:Plain", "there is no module 'my_strategies.deep'"),
        ("broken_strategies:Plain", "importing 'broken_strategies' failed: No module named 'no_such_module_anywhere'"),
        ("failing_strategies:Plain", "importing 'failing_strategies' failed: ZeroDivisionError"),
        (":Plain", 'named "package.module:Class"'),
        ("my_strategies:", 'named "package.module:Class"'),
    ],
)
def test_what_cannot_be_found_says_why(app_dir: Path, spec: str, text: str) -> None:
    with pytest.raises(StrategyNotFound) as error:
        resolve(spec, app_dir)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("spec", "options", "text"),
    [
        ("my_strategies:NoPick", {}, "has no method pick"),
        ("my_strategies:NUMBER", {}, "is a int, not a class"),
        ("my_strategies:wrong", {}, "has no method update and no method pick"),
        ("my_strategies:Plain", {"depth": 3}, "it has no options"),
        ("my_strategies:WithOptions", {"headr": "x"}, "its options are: header, depth"),
        ("my_strategies:WithOptions", {}, "its options are: header, depth"),
        ("my_strategies:Picky", {"depth": 0}, "depth is at least 1"),
        ("round_robin", {"depth": 3}, "it has no options"),
    ],
)
def test_what_cannot_be_made_says_why(app_dir: Path, spec: str, options: dict[str, object], text: str) -> None:
    with pytest.raises(StrategyInvalid) as error:
        build(spec, context(), options, app_dir)
    assert text in str(error.value)


def test_an_installed_package_may_add_names_but_not_take_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = EntryPoints(
        EntryPoint(name, "headgate.balancing.round_robin:RoundRobin", "headgate.strategies") for name in ("mine", "p2c")
    )
    monkeypatch.setattr(registry, "entry_points", lambda **wanted: installed.select(**wanted))
    assert resolve("mine") is RoundRobin
    assert resolve("p2c").__name__ == "PowerOfTwoChoices"
    assert names() == [*BUILT_IN, "mine"]
    with pytest.raises(StrategyNotFound, match="did you mean 'mine'"):
        resolve("mime")
