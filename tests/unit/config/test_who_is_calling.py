"""Keys about who calls: networks of proxies, the PROXY protocol, the fields that tell backends."""

from __future__ import annotations

import pytest

from headgate.config.problems import ConfigError
from headgate.config.schema import Config, Listener, Pool


def read(listener: dict[str, object] | None = None, pool: dict[str, object] | None = None) -> tuple[Listener, Pool]:
    tree = {
        "listeners": [{"bind": "127.0.0.1:0", **(listener or {})}],
        "pools": {"web": {"backends": ["http://127.0.0.1:1"], **(pool or {})}},
    }
    config = Config.from_dict(tree)
    return config.listeners[0], config.pools["web"]


def test_nobody_speaks_the_proxy_protocol_unless_it_says_so() -> None:
    listener, pool = read()
    assert (listener.proxy_protocol, listener.forwarded, pool.proxy_protocol) == ((), "x", None)


def test_what_may_be_said() -> None:
    listener, pool = read(
        {"proxy_protocol": ["10.0.0.0/8", "2001:db8::1", "unix"], "forwarded": "both"}, {"proxy_protocol": "v2"}
    )
    assert listener.proxy_protocol == ("10.0.0.0/8", "2001:db8::1", "unix")
    assert (listener.forwarded, pool.proxy_protocol) == ("both", "v2")
    assert read(pool={"proxy_protocol": False})[1].proxy_protocol is None


@pytest.mark.parametrize(
    ("listener", "pool", "says"),
    [
        # true would have to mean "whoever it is", which is what nobody may say.
        ({"proxy_protocol": True}, {}, "listeners[0].proxy_protocol: expected a list"),
        ({"proxy_protocol": ["10.0.0.0/33"]}, {}, "listeners[0].proxy_protocol[0]"),
        ({"proxy_protocol": ["v1"]}, {}, "listeners[0].proxy_protocol[0]"),
        ({"forwarded": "rfc7293"}, {}, 'did you mean "rfc7239"?'),
        ({"forwarded": False}, {}, "listeners[0].forwarded"),
        ({}, {"proxy_protocol": "v3"}, 'pools.web.proxy_protocol: expected "v1" or "v2"'),
        ({}, {"proxy_protocol": 2}, 'pools.web.proxy_protocol: expected "v1" or "v2"'),
        ({}, {"proxy_protocol": ["10.0.0.0/8"]}, 'pools.web.proxy_protocol: expected "v1" or "v2"'),
    ],
)
def test_what_may_not(listener: dict[str, object], pool: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(listener, pool)
    assert says in str(raised.value)
