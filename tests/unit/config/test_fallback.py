"""`fallback`, `retry.budget` and `retry.hedge_after`: what is understood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from headgate.config.problems import ConfigError
from headgate.config.schema import FALLBACK_BODY_LIMIT, Config, Fallback, Retry
from headgate.runtime.fallbacks import chain, static_answer
from tests.unit.runtime.fake_engine import Parts


def config(**keys: Any) -> Config:
    pools = {"web": {"backends": ["http://a"], **keys}, "spare": {"backends": ["http://b"]}}
    return Config.from_dict({"listeners": [{"bind": ":0"}], "routes": [{"pool": "web"}], "pools": pools})


def fallback(value: object) -> Fallback:
    found = config(fallback=value).pools["web"].fallback
    assert found is not None
    return found


def made(value: object) -> tuple[int, bytes, bytes, bytes]:
    answer: Any = static_answer(fallback(value), Parts(None))  # type: ignore[arg-type]
    assert isinstance(answer, tuple)
    return answer


def test_a_name_is_a_pool() -> None:
    assert fallback("spare") == fallback({"pool": "spare"}) == Fallback(pool="spare")
    assert config().pools["web"].fallback is None
    assert config(fallback=False).pools["web"].fallback is None


def test_a_static_answer_says_what_it_is() -> None:
    status, content_type, fields, body = made({"body": "Back söön"})
    assert (status, content_type, body) == (503, b"text/plain; charset=utf-8", "Back söön".encode())
    assert fields == b"Cache-Control: no-store\r\nRetry-After: 1\r\n"


def test_own_fields_take_the_place_of_ours() -> None:
    answer = made(
        {"status": 200, "body": "{}", "content_type": "application/json", "headers": {"cache-control": "max-age=1"}}
    )
    assert answer == (200, b"application/json", b"cache-control: max-age=1\r\n", b"{}")
    _, _, fields, _ = made({"body": "x", "headers": {"RETRY-AFTER": "60", "X-A": "b"}})
    assert fields == b"RETRY-AFTER: 60\r\nX-A: b\r\nCache-Control: no-store\r\n"


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("sorry.html", b"text/html; charset=utf-8"),
        ("sorry.json", b"application/json"),
        ("sorry", b"text/plain; charset=utf-8"),
    ],
)
def test_a_files_name_says_what_it_is(tmp_path: Path, name: str, content_type: bytes) -> None:
    (tmp_path / name).write_bytes(b"\0\xffsorry")
    assert made({"file": str(tmp_path / name)})[1] == content_type
    assert made({"file": str(tmp_path / name)})[3] == b"\0\xffsorry"


def test_a_body_has_a_largest_size(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_bytes(b"x" * FALLBACK_BODY_LIMIT)
    assert len(made({"file": str(file)})[3]) == FALLBACK_BODY_LIMIT
    accepted = fallback({"file": str(file)})
    file.write_bytes(b"x" * (FALLBACK_BODY_LIMIT + 1))
    for value in ({"file": str(file)}, {"body": "x" * (FALLBACK_BODY_LIMIT + 1)}):
        with pytest.raises(ConfigError, match="larger than 48KiB"):
            config(fallback=value)
    with pytest.raises(ValueError, match="larger than"):  # it grew after it was checked
        static_answer(accepted, Parts(None))  # type: ignore[arg-type]


def test_who_stands_in_for_whom() -> None:
    pools = config(fallback="spare").pools
    assert chain("web", pools) == ["web", "spare"]
    assert chain("spare", pools) == ["spare"]
    looped = {name: msgspec.structs.replace(pool, fallback=Fallback(pool="web")) for name, pool in pools.items()}
    assert chain("spare", looped) == ["spare", "web"]


@pytest.mark.parametrize(
    ("given", "seconds"), [("off", 0.0), (False, 0.0), ("50ms", 0.05), (2, 2.0), ("p95", "p95"), ("p99.9", "p99.9")]
)
def test_when_to_hedge(given: object, seconds: object) -> None:
    retry = config(retry={"hedge_after": given}).pools["web"].retry
    assert retry.hedge_after == seconds
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(retry), type=Retry) == retry


@pytest.mark.parametrize(
    "given", ["p", "p49", "p100", "p1e1", "p9.9.9", "p95%", "P95", "later", 0, -1, True, [], "p\u0669\u0665"]
)
def test_when_not_to_hedge(given: object) -> None:
    with pytest.raises(ConfigError, match=r"hedge_after"):
        config(retry={"hedge_after": given})


def test_a_budget_may_have_no_end() -> None:
    assert config(retry={"budget": False}).pools["web"].retry.budget is None
    retry = config().pools["web"].retry
    assert (retry.budget, retry.reserve, retry.hedge_after) == (0.2, 100, 0.0)
