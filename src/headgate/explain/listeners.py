"""Which listener a question is about: the one it names, else the one of the URL's port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from headgate.config.addresses import Bind
from headgate.config.values import Wrong
from headgate.explain.question import BadQuestion, Question, port_of


class Choice(NamedTuple):
    """bind: as configured. note: why that one, where it is a guess; "" where it is not."""

    bind: str
    note: str


def choose(question: Question, listeners: Sequence[tuple[str, str]]) -> Choice:
    """listeners: each one's `bind` as configured, and with its real port. Raises BadQuestion."""
    if not listeners:
        raise BadQuestion("there is no listener")
    named = ", ".join(real for _, real in listeners)
    if question.listener:
        found = [configured for configured, real in listeners if question.listener in (configured, real)]
        if not found:
            raise BadQuestion(f"there is no listener {question.listener!r}: there is {named}")
        return Choice(found[0], "")
    port = port_of(question)
    found = [configured for configured, real in listeners if _port(real) == port]
    if len(found) == 1:
        return Choice(found[0], "")
    if found:
        return Choice(found[0], f"several listeners have port {port}: explained for {found[0]}")
    configured, real = listeners[0]
    several = "; name another one as `listener`" if len(listeners) > 1 else ""
    return Choice(configured, f"no listener has port {port} (there is {named}): explained for {real}{several}")


def _port(bind: str) -> int | None:
    try:
        parsed = Bind.parse(bind)
    except Wrong:
        return None
    return parsed.port if parsed.family != "unix" else None
