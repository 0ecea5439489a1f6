"""What is asked: a request as a person would write it, turned into the bytes that a client would send."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

import msgspec

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A request to be explained.

    url: absolute ("http://shop.example:8080/cart?x=1"). headers: name and value, in their order; a Host goes before the
    URL's. client: the address that connects ("unix" for a unix socket). listener: which one is meant, by its `bind`;
    "" = by the URL's port.
    """

    method: str = "GET"
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    client: str = "127.0.0.1"
    listener: str = ""


class BadQuestion(ValueError):
    """A question that cannot be answered; the text says what is wrong with it."""


def port_of(question: Question) -> int:
    """The port of the URL, the scheme's where it names none. Raises BadQuestion."""
    parts = _split(question.url)
    try:
        return parts.port if parts.port is not None else _DEFAULT_PORTS[parts.scheme]
    except ValueError as error:
        raise BadQuestion(f"the URL's port: {error}") from None


def client_of(question: Question) -> str:
    """The client's address. Raises BadQuestion."""
    if question.client == "unix":
        return question.client
    try:
        return str(ip_address(question.client))
    except ValueError:
        raise BadQuestion(f'the client {question.client!r} is no IP address (nor "unix")') from None


def head(question: Question) -> bytes:
    """The request's head as a client would send it. Raises BadQuestion for what no client can send."""
    parts = _split(question.url)
    target = parts.path or "/"
    if "?" in question.url.partition("#")[0]:
        target += f"?{parts.query}"
    if question.url == "*" or (question.method == "OPTIONS" and parts.path == "/*"):
        target = "*"
    named = {name.lower() for name, _ in question.headers}
    lines = [f"{question.method} {target} HTTP/1.1"]
    if "host" not in named:
        lines.append(f"Host: {parts.netloc.rpartition('@')[2]}")
    lines += [f"{name}: {value}" for name, value in question.headers]
    for what in (question.method, *lines):
        if any(character in what for character in "\r\n\0"):
            raise BadQuestion("a line break or NUL in a request's head: no client can send that as one field")
    try:
        return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"
    except UnicodeEncodeError as error:
        raise BadQuestion(f"{error.object[error.start : error.end]!r} cannot stand in a request's head") from None


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise BadQuestion(f"the URL {url!r}: {error}") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.netloc:
        raise BadQuestion(f"{url!r} is no URL such as http://shop.example/cart")
    return parts
