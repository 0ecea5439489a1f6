"""`POST /explain` and `GET /decisions` from outside."""

from __future__ import annotations

import pytest

from headgate.cli.admin_client import Connection
from headgate.cli.common import CommandError
from tests.unit.admin.world import TOKEN, serving


def test_a_question_is_answered_by_a_worker() -> None:
    with serving() as (_, address, _):
        said = Connection(f"http://{address}", TOKEN).post("explain", body={"url": "http://shop.test:18080/api/x"})
    assert (said["route"]["number"], said["pool"], said["worker"]) == (2, "api", 0)
    assert said["shadowed"][0]["why"] == "the prefix of route 2, /api, is longer"
    assert said["sticky"]["cookie"] == "headgate_api"
    assert [row["picked"] for row in said["candidates"]] == [True]
    assert said["workers"] == []


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"url": "shop.test"}, "is no URL such as"),
        ({"url": "http://shop.test", "client": "nobody"}, "no IP address"),
        ({"url": "http://shop.test", "listener": ":1"}, "there is no listener ':1': there is 127.0.0.1:18080"),
        ({"url": "http://shop.test", "headers": [["A", "1\r\nB: 2"]]}, "a line break"),
        ({"url": "http://shop.test", "header": "x"}, "unknown field"),
        ({}, "url"),
    ],
)
def test_bad_questions_are_refused(body: dict[str, object], text: str) -> None:
    with serving() as (_, address, _), pytest.raises(CommandError, match=text) as refused:
        Connection(f"http://{address}", TOKEN).post("explain", body=body)
    assert refused.value.code == 2


def test_a_worker_that_says_nothing_is_not_waited_for() -> None:
    with serving() as (world, address, _):
        world.answers = False
        with pytest.raises(CommandError, match="no worker answers"):
            Connection(f"http://{address}", TOKEN).post("explain", body={"url": "http://shop.test:18080/"})


def test_no_decisions() -> None:
    with serving() as (_, address, _):
        connection = Connection(f"http://{address}", TOKEN)
        assert connection.get("decisions", limit=5, failed="true", id="x", backend="b") == {"decisions": []}
        with pytest.raises(CommandError, match="query"):
            connection.get("decisions", limit=0)
