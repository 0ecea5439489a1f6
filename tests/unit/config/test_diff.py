"""A plan says in words what a new configuration changes: each difference once, nothing else, and no secret."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.config.addresses import Bind
from headgate.config.diff import plan
from headgate.config.schema import Config, Listener, Route
from headgate.config.tls import Certificate, ClientCert, ListenerTls


def config(**changes: Any) -> Config:
    tree: dict[str, Any] = {
        "listeners": [{"bind": "127.0.0.1:8080"}],
        "routes": [{"pool": "web"}],
        "pools": {"web": {"backends": ["http://a", {"url": "http://b", "name": "b"}]}},
    }
    return Config.from_dict({**tree, **changes})


def web(**keys: Any) -> dict[str, Any]:
    return {"web": {"backends": ["http://a", {"url": "http://b", "name": "b"}], **keys}}


def test_what_is_the_same_is_no_change() -> None:
    assert plan(config(), config()) == []


def test_the_order_of_things_is_no_change() -> None:
    two = [{"url": "http://b", "name": "b"}, "http://a"]
    assert plan(config(), config(pools={"web": {"backends": two}})) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"workers": 4}, ["workers: 1 becomes 4"]),
        ({"supervisor": {"drain": "5s"}}, ["supervisor.drain: 30s becomes 5s"]),
        ({"supervisor": {"rollback": {}}}, ["supervisor.rollback: none becomes set"]),
        (
            {"listeners": [{"bind": ":9", "status_path": "/s"}]},
            ["listener :9: is added", "listener 127.0.0.1:8080: accepts no more; its connections finish"],
        ),
        (
            {"listeners": [{"bind": "127.0.0.1:8080", "limits": {"body": "1MiB"}, "trusted_proxies": ["10.0.0.0/8"]}]},
            [
                'listener 127.0.0.1:8080: trusted_proxies [] becomes ["10.0.0.0/8"]',
                "listener 127.0.0.1:8080: limits.body off becomes 1MiB",
            ],
        ),
        (
            {"pools": web(strategy={"name": "ip_hash"}, breaker=False)},
            [
                "pool web: strategy round_robin becomes ip_hash, and begins anew",
                "pool web: breaker set becomes none",
            ],
        ),
        (
            {"pools": {"web": {"backends": ["http://a", {"url": "http://c", "name": "b", "weight": 3}]}}},
            [
                "pool web, backend b: http://b becomes http://c: another backend, checked anew",
                "pool web, backend b: weight 1 becomes 3",
            ],
        ),
        (
            {"pools": {"web": {"backends": ["http://a", "http://c"]}}},
            [
                "pool web, backend http://c: is added, weight 1; used once its first check has passed",
                "pool web, backend b: is removed; its requests in flight finish",
            ],
        ),
        (
            {
                "pools": {**web(), "api": {"backends": ["http://x"]}},
                "routes": [{"pool": "web"}, {"pool": "api", "host": "x.y"}],
            },
            ["pool api: is added: 1 backend, round_robin", "route x.y/: is added, to pool api"],
        ),
    ],
)
def test_each_change_in_words(changes: dict[str, Any], said: list[str]) -> None:
    assert [str(change) for change in plan(config(), config(**changes))] == said


def test_there_and_back_is_as_long() -> None:
    other = config(workers=2, pools={"web": {"backends": ["http://c"], "strategy": "p2c"}})
    forth, back = plan(config(), other), plan(other, config())
    assert len([c for c in forth if c.kind == "added"]) == len([c for c in back if c.kind == "removed"])


def test_no_secret_is_shown() -> None:
    old, new = "old-secret-of-32-characters-here", "new-secret-of-32-characters-here"
    changes = plan(config(pools=web(sticky={"secret": old})), config(pools=web(sticky={"secret": new})))
    assert [str(change) for change in changes] == ["pool web: sticky.secret is another one"]
    checked = config(pools=web(health={"type": "http", "headers": {"Authorization": "Bearer abc"}}))
    assert "Bearer" not in "".join(str(change) for change in plan(config(), checked))


def test_tls_is_told_by_its_files() -> None:
    old = Listener(bind=Bind.parse(":8443"), tls=ListenerTls(certificates=(Certificate(cert="a.pem", key="a.key"),)))
    both = (Certificate(cert="a.pem", key="a.key"), Certificate(cert="b.pem"))
    new = Listener(bind=Bind.parse(":8443"), tls=ListenerTls(certificates=both, policy="modern"), redirect_https=0)
    found = [str(change) for change in plan(Config(listeners=(old,)), Config(listeners=(new,)))]
    assert found == [
        'listener :8443: tls.certificates ["a.pem"] becomes ["a.pem", "b.pem"]',
        'listener :8443: tls.policy "intermediate" becomes "modern"',
    ]
    plain = Listener(bind=Bind.parse(":8443"), redirect_https=443)
    found = [str(change) for change in plan(Config(listeners=(plain,)), Config(listeners=(old,)))]
    assert found == ["listener :8443: tls none becomes set", "listener :8443: redirect_https 443 becomes 0"]


def test_routes_for_certificates_are_others() -> None:
    open_to_all, guarded = Route(pool="web"), Route(pool="web", client_cert=ClientCert(subjects=("CN=a",)))
    found = [str(change) for change in plan(Config(routes=(open_to_all,)), Config(routes=(open_to_all, guarded)))]
    assert found == ["route */ with client certificate CN=a: is added, to pool web"]
