"""From raw trees to a Config: defaults, shorthands, what depends on other keys, and that nothing escapes."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.config.addresses import BackendUrl, Bind
from headgate.config.problems import ConfigError, Problems
from headgate.config.schema import (
    Backend,
    Config,
    Health,
    Listener,
    Pool,
    PoolTimeouts,
    Retry,
    Route,
    RouteTimeouts,
    Sticky,
    Strategy,
    Struct,
)
from headgate.config.validate import validate
from headgate.config.values import Whole
from headgate.config.walk import Walker, fields_of, table_in
from headgate.errors import Kind

TREE: dict[str, Any] = {
    "workers": 2,
    "access_log": {"format": "json", "path": "/var/log/headgate.log"},
    "supervisor": {"drain": "10s"},
    "listeners": [
        {
            "bind": ":8080",
            "status_path": "/lb/status",
            "status_allow": ["10.0.0.0/8"],
            "ready_path": "/ready",
            "trusted_proxies": ["unix"],
            "via": False,
            "allow_half_close": True,
            "max_connections": 1000,
            "timeouts": {"client_header": "5s", "client_body": 1, "client_idle": "1m", "client_write": "1h"},
            "limits": {"head": "64KiB", "headers": 50, "request_line": "8KiB", "body": "10MB"},
        }
    ],
    "routes": [
        {"host": "*.example", "path_prefix": "/api", "pool": "web", "listener": "*:8080", "upgrade": []},
        {"pool": "web", "timeouts": {"first_byte": "off", "request": "5s"}, "limits": {"body": "off"}},
    ],
    "pools": {
        "web": {
            "strategy": {"name": "mine:Strategy", "depth": [1, {"a": "b"}]},
            "backends": ["http://a:9001", {"url": "unix:/run/app.sock", "weight": 0, "name": "local"}],
            "sticky": {"secret": "0123456789abcdef", "ttl": "1d"},
            "host": "shop.example",
            "keepalive": False,
            "panic": False,
            "health": {"path": "/health", "statuses": [200, "300-399"], "interval": "1s", "headers": {"X-A": "b"}},
            "breaker": False,
            "retry": {"retries": 0, "on": ["reset", 503]},
            "timeouts": {"connect": "1s", "request": "1m"},
        }
    },
}


def pool_of(**keys: Any) -> Pool:
    tree = {"listeners": [{"bind": ":80"}], "pools": {"web": {"backends": ["http://a"], **keys}}}
    return validate(tree).pools["web"]


def problems_of(tree: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate(tree)
    return [str(problem) for problem in caught.value.problems]


def test_everything_at_once() -> None:
    config = validate(copy.deepcopy(TREE))
    pool = config.pools["web"]
    listener = config.listeners[0]
    assert (config.workers, config.access_log.format, config.supervisor.drain) == (2, "json", 10.0)
    assert listener.bind == Bind(":8080", "dual", port=8080)
    assert listener.via is None
    assert listener.limits.head == 65536
    assert listener.timeouts.client_write == 3600
    assert config.routes[0].listener == ":8080"
    assert config.routes[1].limits.body == 0
    assert pool.strategy == Strategy(name="mine:Strategy", options={"depth": [1, {"a": "b"}]})
    assert [(backend.name, backend.weight) for backend in pool.backends] == [("http://a:9001", 1), ("local", 0)]
    assert pool.sticky == Sticky(name="headgate_web", secret="0123456789abcdef", ttl=86400.0)
    assert (pool.keepalive, pool.panic, pool.breaker) == (0, None, None)
    assert pool.health.accepts(302)
    assert not pool.health.accepts(204)
    assert pool.retry.kinds() == {Kind.RESET, Kind.DRAIN_DEADLINE}
    assert pool.retry.statuses() == {503}


def test_a_config_survives_msgpack() -> None:
    config = validate(copy.deepcopy(TREE))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(config), type=Config) == config


def test_defaults_are_those_of_the_schema() -> None:
    config = validate({"listeners": [{"bind": ":80"}], "pools": {"web": {"backends": ["http://a"]}}})
    backends = (Backend(url=BackendUrl.parse("http://a")),)
    assert config == Config(
        listeners=(Listener(bind=Bind.parse(":80")),),
        routes=(Route(pool="web"),),
        pools={"web": Pool(backends=backends)},
    )


def test_every_default_passes_its_own_reader() -> None:
    """A default that could not be written in a file would be a mistake in the schema."""

    def check(cls: type[Struct]) -> None:
        for field in msgspec.structs.fields(cls):
            hint = fields_of(cls)[field.name]
            inner = table_in(hint)
            if inner is not None:
                check(inner)
                continue
            value = None if field.required else getattr(field, "default", None)
            if value is None or value is msgspec.NODEFAULT or value in ("", {}):
                continue
            zero_is_off = not any(
                isinstance(note, Whole) and not note.off for note in getattr(hint, "__metadata__", ())
            )
            raw: Any = "off" if value == 0 and zero_is_off and not isinstance(value, bool) else value
            if field.name == "statuses":
                raw = [f"{first}-{last}" for first, last in value]
            problems = Problems()
            read = Walker(problems).value(hint, raw, (field.name,), ())
            assert not problems, (cls, field.name, str(problems.error()))
            assert read == value

    check(Config)


def test_a_single_pool_needs_no_route() -> None:
    config = Config(pools={"only": Pool(backends=())})
    assert config.routes == (Route(pool="only"),)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"health": {"path": "/h"}}, ("http", 5.0, 2.0)),
        ({"health": {"statuses": [204]}}, ("http", 5.0, 2.0)),
        ({"health": {"interval": "500ms"}}, ("tcp", 0.5, 0.5)),
        ({"health": {"interval": "60s"}}, ("tcp", 60.0, 2.0)),
        ({"health": {"type": "none"}}, ("none", 5.0, 2.0)),
        ({"health": False}, ("none", 5.0, 2.0)),
    ],
)
def test_what_a_health_table_leaves_out(keys: dict[str, Any], expected: tuple[str, float, float]) -> None:
    health = pool_of(**keys).health
    assert (health.type, health.interval, health.timeout) == expected


def test_shorthands() -> None:
    assert pool_of(sticky="cookie").sticky == Sticky(name="headgate_web")
    assert pool_of(sticky=False).sticky is None
    assert pool_of(strategy="p2c").strategy == Strategy(name="p2c")
    assert pool_of(strategy={"name": "a:B", "options": {"x": 1}, "y": 2}).strategy.options == {"x": 1, "y": 2}


def test_a_route_overrides_what_it_names() -> None:
    pool = PoolTimeouts(connect=1.0)
    assert RouteTimeouts().over(pool) is pool
    assert RouteTimeouts(first_byte=0.0, request=5.0).over(pool) == PoolTimeouts(
        connect=1.0, first_byte=0.0, request=5.0
    )


def test_the_default_conditions_of_a_retry() -> None:
    assert Retry().kinds() == {Kind.RESET, Kind.DRAIN_DEADLINE, Kind.FIRST_BYTE_TIMEOUT, Kind.BAD_HEAD}
    assert Retry().statuses() == {502, 503, 504}


def test_a_secret_is_not_shown() -> None:
    assert "0123456789abcdef" not in repr(validate(copy.deepcopy(TREE)))


def test_a_wrong_key_hides_no_other_and_causes_no_second() -> None:
    tree = {
        "listeners": [{"bind": ":80"}],
        "pools": {"web": {"backends": ["http://a"], "health": {"interval": "x", "timeout": "60s"}}},
    }
    assert problems_of(tree) == [
        'pools.web.health.interval: "x" is not a duration (write it as "5s", "500ms", "2m" or "1h")',
    ]


def test_names_that_are_not_strings() -> None:
    assert problems_of({"listeners": [{"bind": ":80", 5: 1}], "pools": {1: {"backends": []}}, None: 1}) == [
        "listeners[0].5: unknown key",
        "pools.1: a name must be a string",
        "None: unknown key",
    ]


def test_options_that_no_worker_could_be_sent() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for option in (2**64, loop, object(), {1: 2}, "\ud800", {"\ud800": 1}):
        tree = {
            "listeners": [{"bind": ":80"}],
            "pools": {"web": {"backends": [], "strategy": {"name": "a:B", "o": option}}},
        }
        assert len(problems_of(tree)) == 1


def test_from_dict_leaves_references_alone() -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_dict({"listeners": [{"bind": "${BIND}"}], "pools": {"web": {"backends": []}}})
    assert '"${BIND}"' in str(caught.value)


def test_from_simple() -> None:
    config = Config.from_simple(
        ["http://a:9001", "http://b:9002,weight=2", {"url": "http://c", "name": "c"}],
        listen=["127.0.0.1:0", "unix:/run/hg.sock"],
        sticky="cookie",
        health_path="/health",
        timeout="1s",
        retries=0,
        access_log=False,
    )
    pool = config.pools["web"]
    assert [listener.bind.text for listener in config.listeners] == ["127.0.0.1:0", "unix:/run/hg.sock"]
    assert {listener.status_path for listener in config.listeners} == {"/lb/status"}
    assert [backend.weight for backend in pool.backends] == [1, 2, 1]
    assert pool.health == Health(type="http", path="/health")
    assert (pool.timeouts.first_byte, pool.timeouts.connect) == (1.0, 1.0)
    assert (pool.retry.retries, config.access_log.format) == (0, "off")
    with pytest.raises(ConfigError):
        Config.from_simple(["a:9001"])


# --- whatever comes, only a ConfigError leaves ---

_words = ["5s", "off", "http://a", "unix:/a", ":80", "/a", "cookie", "tcp", "web", "10.0.0.0/8", "a:B", "200-299"]
_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(_words)
_names = st.sampled_from(sorted({name for cls in Struct.__subclasses__() for name in cls.__struct_fields__})) | st.text(
    max_size=4
)
_trees = st.recursive(_scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=5))


def only_config_errors(tree: object) -> None:
    try:
        config = validate(tree, file="x", environ={"A": "b"})
    except ConfigError as error:
        str(error).encode()
        return
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(config), type=Config).pools.keys() == config.pools.keys()


@given(_trees)
def test_any_tree(tree: object) -> None:
    only_config_errors(tree)


def _places(tree: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place, *(found for name, value in pairs for found in _places(value, (*place, name)))]


@settings(max_examples=300)
@given(st.data())
def test_a_good_tree_with_one_value_exchanged(data: st.DataObject) -> None:
    tree = copy.deepcopy(TREE)
    *way, last = data.draw(st.sampled_from(_places(TREE)[1:]))
    node = tree
    for part in way:
        node = node[part]
    node[last] = data.draw(_trees)
    only_config_errors(tree)
