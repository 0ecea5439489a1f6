"""Which listener a question is about, and what no client could ask."""

from __future__ import annotations

import pytest

from headgate.explain.listeners import choose
from headgate.explain.question import BadQuestion, Question, client_of, head

TWO = [("127.0.0.1:0", "127.0.0.1:8080"), (":443", ":443")]


@pytest.mark.parametrize(
    ("url", "listener", "bind", "note"),
    [
        ("http://x:8080/", "", "127.0.0.1:0", ""),
        ("https://x/", "", ":443", ""),
        ("http://x/", "", "127.0.0.1:0", "no listener has port 80 (there is 127.0.0.1:8080, :443)"),
        ("http://x/", ":443", ":443", ""),
        ("http://x/", "127.0.0.1:8080", "127.0.0.1:0", ""),
    ],
)
def test_by_port_or_name(url: str, listener: str, bind: str, note: str) -> None:
    choice = choose(Question(url=url, listener=listener), TWO)
    assert choice.bind == bind
    assert choice.note.startswith(note)
    assert bool(choice.note) == bool(note)


@pytest.mark.parametrize(
    "question",
    [
        Question(url="shop.test/x"),
        Question(url="ftp://shop.test/x"),
        Question(url="http://"),
        Question(url="http://[::1/"),
        Question(url="http://x:99999/"),
        Question(url="http://x/", listener=":9"),
        Question(url="http://x/", client="nobody"),
        Question(url="http://x/", headers=(("A", "b\r\nC: d"),)),
        Question(url="http://x/", method="GET / HTTP/1.1\r\n"),
        Question(url="http://x/", headers=(("A", "\N{SNOWMAN}"),)),
    ],
)
def test_bad_questions(question: Question) -> None:
    def all_of_it() -> None:
        choose(question, TWO)
        client_of(question)
        head(question)

    with pytest.raises(BadQuestion):
        all_of_it()


def test_the_head_is_what_a_client_sends() -> None:
    asked = Question(url="http://shop.test:81/a?b#c", method="PUT", headers=(("Cookie", "a=1"),))
    assert head(asked) == b"PUT /a?b HTTP/1.1\r\nHost: shop.test:81\r\nCookie: a=1\r\n\r\n"
    named = Question(url="http://shop.test?", headers=(("host", "other"),))
    assert head(named) == b"GET /? HTTP/1.1\r\nhost: other\r\n\r\n"
    assert head(Question(url="http://x/*", method="OPTIONS")).startswith(b"OPTIONS * HTTP/1.1\r\n")
