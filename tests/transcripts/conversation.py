"""The language the conversations are written in.

    talk = conversation("ab")               a balancer with two backends, a and b; a is asked first
    client = talk.client()
    client >> get("/one")                   the client says this
    up = talk["a"].accepts()                the balancer connects to a
    up << "GET /one HTTP/1.1"               and the backend hears this request, complete
    up >> ok(b"hello")
    client << "HTTP/1.1 200 OK\\n\\nhello"    the client hears this answer, complete

What is expected may be
    str         a whole message: its start line, fields that it must have with this value ("!name": that it must not
                have), and behind an empty line its decoded body. Everything is read strictly (harness/wire.py).
    Head(str)   the head alone. What follows is read as bytes.
    bytes       exactly these bytes come next.

When an expectation fails, the conversation so far is in the message.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NoReturn

from headgate.balancing.base import Strategy

from ..e2e.harness.ports import HeldPort
from ..e2e.harness.wire import Incomplete, Malformed, Message, Reader
from .certificates import NAME, Contexts
from .stage import Stage
from .wires import Plain, Tls, Wire, ready

SHOWN = 400
Side = Literal["client", "backend", "both"]


class Head(str):
    """The head of a message alone."""


def _crlf(text: str) -> bytes:
    return text.encode("latin-1").replace(b"\n", b"\r\n")


def request(method: str, target: str, *fields: str, body: bytes | None = None, host: str = "h.example") -> bytes:
    """A whole request; with a Content-Length if there is a body."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return _crlf("\n".join(lines) + "\n\n") + (body or b"")


def get(target: str = "/", *fields: str) -> bytes:
    return request("GET", target, *fields)


def post(target: str = "/", body: bytes = b"", *fields: str) -> bytes:
    return request("POST", target, *fields, body=body)


def answer(status: str, body: bytes = b"", *fields: str) -> bytes:
    """A whole response with a Content-Length."""
    return _crlf("\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]) + "\n\n") + body


def ok(body: bytes = b"", *fields: str) -> bytes:
    return answer("200 OK", body, *fields)


def message(text: str) -> bytes:
    """Any head, written with plain line ends; the empty line is added."""
    return _crlf(text + "\n\n")


class Peer:
    """Somebody with a connection to or from the balancer."""

    def __init__(self, talk: Conversation, name: str, sock: socket.socket) -> None:
        self.talk = talk
        self.name = name
        self.socket = sock
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wire: Wire = Plain(sock)
        self.reader = Reader(self._receive)
        self.last: Message | None = None
        """The last message that was heard, to look at more closely."""

    def speaks_tls(self, wire: Tls) -> None:
        """From here on inside TLS: the handshake, with the balancer's help."""
        self.wire = wire
        if not wire.shake() and not self.talk.stage.until(wire.shake, self.socket):
            self.talk.fail(f"{self.name} had no handshake")

    # Saying

    def __rshift__(self, data: bytes) -> Peer:
        """Say all of this. The engine runs only if it must, to make room."""
        self.talk.note(self.name, ">>", data)
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.wire.send(rest) :]
            except BlockingIOError:
                if not self.talk.stage.until(self._may_say, self.socket, select.POLLOUT):
                    self.talk.fail(f"{self.name} cannot say more: nobody reads")
        if self.wire.busy():
            self.talk.stage.until(lambda: not self.wire.busy(), self.socket, select.POLLOUT)
        return self

    def _may_say(self) -> bool:
        return ready(self.socket, select.POLLOUT)

    def pours(self, data: bytes) -> int:
        """Say as much of this as the balancer takes before it stops reading; how much that was."""
        said = 0
        while said < len(data):
            if not self._may_say():
                self.talk.stage.settle()
                if not self._may_say():
                    break
            with contextlib.suppress(BlockingIOError):
                said += self.wire.send(memoryview(data)[said:])
        self.talk.note(self.name, ">>", b"(%d of %d bytes)" % (said, len(data)))
        return said

    def finishes(self) -> None:
        """Say that nothing more will be said (FIN), and go on listening."""
        self.talk.note(self.name, "--", b"FIN")
        self.wire.finish()

    def leaves(self) -> None:
        """Close the connection."""
        self.talk.note(self.name, "--", b"close")
        if isinstance(self.wire, Tls):
            self.wire.say_goodbye()
        self.socket.close()

    def resets(self) -> None:
        """End the connection with a reset."""
        self.talk.note(self.name, "--", b"RST")
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # Hearing

    def _readable(self) -> bool:
        return self.wire.readable()

    def _receive(self) -> bytes:
        """For the reader: what comes next, b"" at the end. The engine runs until then."""
        if not self._readable() and not self.talk.stage.until(self._readable, self.socket):
            self.talk.fail(f"{self.name} heard nothing more")
        return self.wire.receive()

    def __lshift__(self, expected: str | bytes) -> Peer:
        """Hear this next (see the top of the file)."""
        said = expected.encode("latin-1") if isinstance(expected, str) else expected
        self.talk.note(self.name, "<<", said)
        try:
            if isinstance(expected, bytes):
                heard = self.reader.exactly(len(expected))
                if heard != expected:
                    self.talk.fail(f"{self.name} heard {_short(heard)}")
            else:
                self._hears_message(expected)
        except (Malformed, Incomplete, ConnectionError) as error:
            self.talk.fail(f"{self.name}: {type(error).__name__}: {error}; heard {_short(self.reader.pending)}")
        return self

    def _hears_message(self, expected: str) -> None:
        top, _, body = expected.partition("\n\n")
        start, *fields = top.split("\n")
        head: Message
        if start.startswith("HTTP/"):
            response = self.reader.response_head()
            if not isinstance(expected, Head):
                self.reader.response_body(response)
            head = response
        else:
            request = self.reader.request_head()
            if request is None:
                self.talk.fail(f"{self.name} heard the end of the connection")
            if not isinstance(expected, Head):
                self.reader.request_body(request)
            head = request
        self.last = head
        shown = "\n".join(part.decode("latin-1") for part in (head.start_line, *map(b": ".join, head.fields)))
        if head.start_line != start.encode("latin-1"):
            self.talk.fail(f"{self.name} heard:\n{shown}")
        for field in fields:
            name, _, value = field.partition(":")
            wanted = [] if name.startswith("!") else [value.strip()]
            if head.headers(name.lstrip("!")) != wanted:
                self.talk.fail(f"{self.name} expected {field!r} and heard:\n{shown}")
        if not isinstance(expected, Head) and head.body != body.encode("latin-1"):
            self.talk.fail(f"{self.name} heard the body {_short(head.body)}")

    def hears_nothing(self) -> None:
        """The engine has nothing more to do, and said nothing to this one, nor closed."""
        self.talk.note(self.name, "<<", b"(nothing)")
        self.talk.stage.settle()
        if self.reader.pending or self._readable():
            self.talk.fail(f"{self.name} heard {_short(self.reader.pending or self._receive())}")

    def is_closed(self) -> None:
        """The balancer ends the connection, in order and without another byte."""
        self.talk.note(self.name, "<<", b"FIN")
        try:
            heard = self.reader.pending or self._receive()
        except ConnectionError as error:
            self.talk.fail(f"{self.name}: {error}")
        if heard:
            self.talk.fail(f"{self.name} heard {_short(heard)}")

    def is_reset(self) -> None:
        """The balancer breaks the connection off, without another byte."""
        self.talk.note(self.name, "<<", b"RST")
        try:
            heard = self.reader.pending or self._receive()
        except ConnectionResetError:
            return
        self.talk.fail(f"{self.name} heard {_short(heard)}")

    def is_gone(self) -> None:
        """The balancer ends the connection, in either way: which one depends on what it had not read."""
        self.talk.note(self.name, "<<", b"FIN or RST")
        with contextlib.suppress(ConnectionResetError):
            heard = self.reader.pending or self._receive()
            if heard:
                self.talk.fail(f"{self.name} heard {_short(heard)}")


class Backend:
    """One backend: a port, and somebody who listens there."""

    def __init__(self, talk: Conversation, name: str) -> None:
        self.talk = talk
        self.name = name
        self.port = HeldPort()
        self._count = 0
        self._listening: socket.socket | None = None
        self.listens()

    def listens(self, backlog: int = 64) -> tuple[str, int]:
        """Listen, from now on or with another backlog; returns where."""
        self.refuses()
        self._listening = self.port.listen(backlog)
        self._listening.setblocking(False)
        return self.port.address

    def refuses(self) -> None:
        """Stop listening: the kernel refuses whoever connects."""
        if self._listening is not None:
            self.talk.note(self.name, "--", b"refuses connections")
            self._listening.close()
            self._listening = None

    def _called(self) -> bool:
        assert self._listening is not None
        return ready(self._listening, select.POLLIN)

    def accepts(self) -> Peer:
        """The balancer connects. Connections are named a1, a2, ... in their order."""
        assert self._listening is not None, f"{self.name} refuses connections"
        self._count += 1
        name = f"{self.name}{self._count}"
        self.talk.note(name, "--", b"accepts")
        if not self._called() and not self.talk.stage.until(self._called, self._listening):
            self.talk.fail(f"nobody connected to {self.name}")
        sock, _ = self._listening.accept()
        peer = self.talk.join(Peer(self.talk, name, sock))
        if self.talk.backend_tls is not None:
            peer.speaks_tls(Tls(sock, self.talk.backend_tls, server=True))
        return peer

    def is_left_alone(self) -> None:
        """The engine has nothing more to do, and made no connection to this backend."""
        self.talk.note(self.name, "--", b"is left alone")
        self.talk.stage.settle()
        if self._called():
            self.talk.fail(f"a connection to {self.name} was made")

    def close(self) -> None:
        if self._listening is not None:
            self._listening.close()
        self.port.close()


class Conversation:
    """A balancer, its backends by name, and the clients that come; with the transcript of what was said."""

    def __init__(
        self,
        directory: Path,
        names: str = "a",
        *,
        listener: Mapping[str, object] | None = None,
        route: Mapping[str, object] | None = None,
        strategy: Strategy | None = None,
        spare: str = "",
        spare_pool: Mapping[str, object] | None = None,
        limits: Mapping[str, Mapping[str, int]] | None = None,
        pool_limits: Mapping[str, object] | None = None,
        **pool: object,
    ) -> None:
        self._transcript: list[str] = []
        self._peers: list[Peer] = []
        self._clients = 0
        self._backends = {name: Backend(self, name) for name in names + spare}
        ports = {name: self._backends[name].port for name in names}
        standing_in = {name: self._backends[name].port for name in spare}
        if pool_limits is not None:
            pool["limits"] = pool_limits
        self.names = names
        self.stage = Stage(directory, ports, listener or {}, pool, strategy, route, limits, standing_in, spare_pool)
        self.client_tls: ssl.SSLContext | None = None
        """What clients speak TLS with."""
        self.backend_tls: ssl.SSLContext | None = None
        """And backends."""

    def over_tls(self, side: Side, contexts: Contexts) -> None:
        """Everybody on this side, or both, speaks TLS from here on."""
        if side in ("client", "both"):
            self.stage.listener.tls = contexts.listener
            self.client_tls = contexts.client
        if side in ("backend", "both"):
            self.stage.backend_tls = contexts.to_backend, NAME
            for pool in (self.stage.pool, self.stage.spare):
                if pool is not None:
                    self.stage.backends_speak_tls(pool)
            self.backend_tls = contexts.backend

    def __getitem__(self, name: str) -> Backend:
        return self._backends[name]

    def client(self) -> Peer:
        """Somebody connects to the balancer."""
        self._clients += 1
        sock = socket.create_connection(self.stage.address)
        peer = self.join(Peer(self, "client" if self._clients == 1 else f"client{self._clients}", sock))
        if self.client_tls is not None:
            peer.speaks_tls(Tls(sock, self.client_tls, server=False, name=NAME))
        return peer

    def join(self, peer: Peer) -> Peer:
        self._peers.append(peer)
        return peer

    def note(self, name: str, verb: str, said: bytes) -> None:
        self._transcript.append(f"{name:>8} {verb} {_short(said)}")

    def fail(self, text: str) -> NoReturn:
        """Fail the test, with all that was said so far."""
        raise AssertionError("\n".join([text, "", *self._transcript]))

    def close(self) -> None:
        self.stage.close()
        for peer in self._peers:
            peer.socket.close()
        for backend in self._backends.values():
            backend.close()


def _short(data: bytes) -> str:
    return repr(data) if len(data) <= SHOWN else f"{data[:SHOWN]!r}... ({len(data)} bytes)"
