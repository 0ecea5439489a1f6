"""One active check from connect to verdict, as a small state machine on a raw non-blocking socket.

A task per check would cost more than the check itself: at 1,000 checks a second the event loop's own bookkeeping
decides. So all checks share one epoll instance, which the loop watches like any other descriptor, and a check is one
object with a handful of callbacks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from headgate.errors import Kind
from headgate.health.introduction import Introduction
from headgate.runtime.address import describe_os_error, unpack_address

# Ours, not the backend's: no descriptor, no memory, no local port. Such a check has no result.
OUR_ERRORS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.EPERM}
)
_READ = 16 * 1024
# After the verdict the rest of the answer is read and thrown away, so that the backend sees no reset; not for ever.
_MOST_DISCARDED = 64 * 1024


@dataclass(frozen=True, slots=True)
class Result:
    """How a check ended. kind: `Kind.OK`, or what failed. detail: for people, in a few words."""

    kind: Kind
    detail: str

    @property
    def ok(self) -> bool:
        return self.kind is Kind.OK


@dataclass(frozen=True, slots=True)
class Secured:
    """TLS with a backend. server_name: whom it must be, by SNI and by its certificate."""

    context: ssl.SSLContext
    server_name: str


class Probe(Protocol):
    """What is asked over the connection, and how the answer is judged. Immutable: one serves any number of checks."""

    request: bytes  # sent once connected; b"" = being connected (and secured, where TLS is spoken) is enough

    def judge(self, data: bytes, *, eof: bool) -> Result | None:
        """The verdict on all bytes received so far, or None to wait for more. Must answer when `eof` is true."""


class Poller:
    """An epoll instance nested in an event loop. Callbacks get the epoll event mask."""

    def __init__(
        self, add_reader: Callable[[int, Callable[[], None]], object], remove_reader: Callable[[int], object]
    ) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._fresh: set[int] = set()
        self._remove_reader = remove_reader
        add_reader(self._epoll.fileno(), self._run)

    def register(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        self._callbacks[fd] = callback
        self._fresh.add(fd)
        self._epoll.register(fd, mask)

    def modify(self, fd: int, mask: int) -> None:
        self._epoll.modify(fd, mask)

    def unregister(self, fd: int) -> None:
        """Call before closing the descriptor."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close(self) -> None:
        if not self._epoll.closed:
            self._remove_reader(self._epoll.fileno())
            self._epoll.close()

    def _run(self) -> None:
        # A bounded batch, so that a thousand answers at once do not hold the loop; the rest keeps the epoll readable.
        events = self._epoll.poll(0, 64)
        self._fresh.clear()
        for fd, mask in events:
            callback = self._callbacks.get(fd)
            # A number that was closed and given out again within this batch: the event is its last owner's. Nothing is
            # lost, epoll is level-triggered here.
            if callback is not None and fd not in self._fresh:
                callback(mask)


class Check:
    """A check under way. Tries the addresses in turn; the first verdict that is "ok" wins, else the last one stands.

    poller: where it waits. addresses: packed `struct sockaddr` values, at least one. probe: what to ask. introduction:
    what is said before.
    done: called exactly once, unless cancelled, with the result; None means that the fault is ours and nothing was
    learned. It may be called before `start` returns. The owner calls `expire` when an address has had its time.
    tls: how TLS is spoken; None: plain.
    """

    __slots__ = (
        "_addresses",
        "_data",
        "_discarding",
        "_done",
        "_handshaking",
        "_index",
        "_introduction",
        "_poller",
        "_probe",
        "_sent",
        "_sock",
        "_tls",
    )

    def __init__(
        self,
        poller: Poller,
        addresses: Sequence[bytes],
        probe: Probe,
        done: Callable[[Result | None], None],
        introduction: Introduction | None = None,
        tls: Secured | None = None,
    ) -> None:
        self._poller = poller
        self._addresses = addresses
        self._probe = probe
        self._introduction = introduction
        self._done: Callable[[Result | None], None] | None = done
        self._index = -1
        self._sock: socket.socket | None = None
        self._data = b""
        self._sent = 0
        self._discarding = 0
        self._tls = tls
        self._handshaking = False

    @property
    def count(self) -> int:
        """How many addresses there are to try."""
        return len(self._addresses)

    @property
    def index(self) -> int:
        """Which address is being tried, from 0."""
        return self._index

    @property
    def open(self) -> bool:
        """It still holds a descriptor; after the verdict it may, for a moment, to read the rest of the answer."""
        return self._sock is not None

    def start(self) -> None:
        self._next(None)

    def expire(self) -> None:
        """The time for this address is over: try the next one, or give the verdict."""
        if self._done is None or self._sock is None:
            self._close()
        elif self._connecting():
            self._next(Result(Kind.CONNECT_TIMEOUT, "connect timed out"))
        elif self._handshaking:
            self._next(Result(Kind.TLS_HANDSHAKE, "TLS handshake timed out"))
        else:
            self._next(Result(Kind.FIRST_BYTE_TIMEOUT, "no complete answer in time"))

    def cancel(self) -> None:
        """Stop; `done` is not called any more."""
        self._done = None
        self._close()

    def _connecting(self) -> bool:
        sock = self._sock
        assert sock is not None
        try:
            sock.getpeername()
        except OSError:
            return True
        return False

    def _next(self, failure: Result | None) -> None:
        """Begin with the next address; with none left, `failure` is the verdict."""
        while True:
            self._close()
            self._index += 1
            if self._index >= len(self._addresses):
                self._finish(failure or Result(Kind.CONNECT_FAILED, "no address"))
                return
            family, address = unpack_address(self._addresses[self._index])
            try:
                self._sock = sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                code = sock.connect_ex(address)
            except OSError as error:
                code = error.errno or errno.EINVAL
            if code in (0, errno.EINPROGRESS):
                self._data, self._sent, self._handshaking = b"", 0, False
                assert self._sock is not None
                self._poller.register(self._sock.fileno(), select.EPOLLOUT, self._event)
                return
            if code in OUR_ERRORS:
                self._close()
                self._finish(None)
                return
            failure = _connect_failure(code)

    def _event(self, mask: int) -> None:
        sock = self._sock
        if sock is None:
            return
        if self._discarding:
            self._discard(sock)
        elif self._handshaking:
            self._handshake(sock)
        elif mask & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP) and self._sent <= 0:
            self._connected(sock)
        elif mask & select.EPOLLOUT and self._sent < len(self._probe.request):
            self._write(sock)
        else:
            self._read(sock)

    def _connected(self, sock: socket.socket) -> None:
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not code and sock.family != socket.AF_UNIX and _met_itself(sock):
            code = errno.ECONNREFUSED
        if code in OUR_ERRORS:
            self._close()
            self._finish(None)
        elif code:
            self._next(_connect_failure(code))
        elif not self._introduced(sock):
            self._next(Result(Kind.RESET, "closed as soon as it was open"))
        elif self._tls is not None:
            self._secure(sock, self._tls)
        else:
            self._ready(sock)

    def _secure(self, sock: socket.socket, tls: Secured) -> None:
        """Begin the handshake, on the same descriptor."""
        self._poller.unregister(sock.fileno())
        self._sock = None  # wrapping takes the descriptor from it, and closes that when it fails
        try:
            secured = tls.context.wrap_socket(sock, server_hostname=tls.server_name, do_handshake_on_connect=False)
        except (OSError, ValueError) as error:  # gone again already
            self._next(Result(Kind.RESET, describe_os_error(getattr(error, "errno", None) or errno.ECONNRESET)))
            return
        self._sock = secured
        self._poller.register(secured.fileno(), select.EPOLLOUT, self._event)
        self._handshaking = True
        self._handshake(secured)

    def _handshake(self, sock: socket.socket) -> None:
        assert isinstance(sock, ssl.SSLSocket)
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            self._poller.modify(sock.fileno(), select.EPOLLIN)
        except ssl.SSLWantWriteError:
            self._poller.modify(sock.fileno(), select.EPOLLOUT)
        except ssl.SSLCertVerificationError as error:
            self._next(Result(Kind.TLS_VERIFY, f"certificate not accepted: {error.verify_message}"))
        except ssl.SSLError as error:
            self._next(Result(Kind.TLS_HANDSHAKE, f"TLS handshake failed: {_words(error)}"))
        except OSError as error:
            self._next(Result(Kind.TLS_HANDSHAKE, f"TLS handshake failed: {describe_os_error(error.errno)}"))
        else:
            self._handshaking = False
            self._poller.modify(sock.fileno(), select.EPOLLOUT)
            self._ready(sock)

    def _ready(self, sock: socket.socket) -> None:
        """Connected, and secured where that was wanted."""
        if not self._probe.request:
            self._close()
            self._finish(Result(Kind.OK, "connected" if self._tls is None else "connected, certificate accepted"))
        else:
            self._write(sock)

    def _introduced(self, sock: socket.socket) -> bool:
        """Says what is to be said first: a few bytes, which a fresh connection takes at once."""
        if self._introduction is None:
            return True
        try:
            data = self._introduction(sock)
            return sock.send(data, socket.MSG_NOSIGNAL) == len(data)
        except OSError:
            return False

    def _write(self, sock: socket.socket) -> None:
        flags = 0 if isinstance(sock, ssl.SSLSocket) else socket.MSG_NOSIGNAL
        try:
            self._sent += sock.send(self._probe.request[self._sent :], flags)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return
        except OSError:
            # It may have answered before it closed: let the read side tell.
            self._sent = len(self._probe.request)
        if self._sent >= len(self._probe.request):
            self._poller.modify(sock.fileno(), select.EPOLLIN)

    def _read(self, sock: socket.socket) -> None:
        # What TLS has decrypted already makes no descriptor readable: as long as there is something, it is read.
        while self._sock is sock and not self._discarding and self._read_some(sock):
            pass

    def _read_some(self, sock: socket.socket) -> bool:
        """True when there may be more at once."""
        try:
            data = sock.recv(_READ)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except ssl.SSLError as error:  # a client certificate that is not wanted is refused here, in TLS 1.3
            self._next(Result(Kind.TLS_HANDSHAKE, f"TLS failed: {_words(error)}"))
            return False
        except OSError as error:
            self._next(Result(Kind.RESET, describe_os_error(error.errno)))
            return False
        self._data += data
        result = self._probe.judge(self._data, eof=not data)
        if result is None:
            return isinstance(sock, ssl.SSLSocket)
        if not result.ok and self._index + 1 < len(self._addresses):
            self._next(result)
            return False
        if data:
            self._discarding = 1
        else:
            self._close()
        self._finish(result)
        return False

    def _discard(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(_READ)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            data = b""
        self._discarding += len(data)
        if not data or self._discarding > _MOST_DISCARDED:
            self._close()

    def _finish(self, result: Result | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(result)

    def _close(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            self._poller.unregister(sock.fileno())
            if isinstance(sock, ssl.SSLSocket) and not self._handshaking:
                # A close without a word is an error in the backend's log.
                with contextlib.suppress(OSError, ValueError):
                    sock.unwrap()
            sock.close()


def _words(error: ssl.SSLError) -> str:
    return (error.reason or "").replace("_", " ").lower() or "the connection was closed"


def _met_itself(sock: socket.socket) -> bool:
    """A dead port in the ephemeral range can be met by our own connection attempt (RFC 9293 section 3.5)."""
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:  # gone again already: the next read tells
        return False


def _connect_failure(code: int) -> Result:
    if code == errno.ECONNREFUSED:
        return Result(Kind.CONNECT_REFUSED, "connection refused")
    if code == errno.ETIMEDOUT:
        return Result(Kind.CONNECT_TIMEOUT, "connect timed out")
    if code == errno.EAGAIN:  # unix(7): the listener's backlog is full
        return Result(Kind.CONNECT_FAILED, "the socket's backlog is full")
    return Result(Kind.CONNECT_FAILED, describe_os_error(code) or os.strerror(code))
