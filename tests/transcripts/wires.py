"""How a peer of a conversation puts bytes on its socket: as they are, or inside TLS."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from typing import Protocol

RECORD = 16384


class Wire(Protocol):
    """A non-blocking socket and what is spoken on it."""

    def send(self, data: memoryview) -> int:
        """Say some of this; how much that was. Raises BlockingIOError."""

    def receive(self) -> bytes:
        """What has come (`readable` said so); b"" at the orderly end. Raises ConnectionResetError at any other."""

    def readable(self) -> bool:
        """Is there something to receive, or the end?"""

    def busy(self) -> bool:
        """Is there something left to be sent of what was said?"""

    def finish(self) -> None:
        """Say that this was all."""


def ready(sock: socket.socket, events: int) -> bool:
    """Does the kernel say so?"""
    poller = select.poll()
    poller.register(sock, events)
    return bool(poller.poll(0))


class Plain:
    """Bytes as they are."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def send(self, data: memoryview) -> int:
        return self._socket.send(data)

    def receive(self) -> bytes:
        return self._socket.recv(262144)

    def readable(self) -> bool:
        return ready(self._socket, select.POLLIN)

    def busy(self) -> bool:
        return False

    def finish(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)


class Tls:
    """Inside TLS. FIN without close_notify is a reset: whatever ends with the connection may be cut short."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server: bool, name: str | None = None) -> None:
        self._socket = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_side=server, server_hostname=name)
        self.established = False
        self._unsent = b""
        self._plain = b""
        self._end: type[ConnectionResetError] | bool | None = False  # None: in order

    def shake(self) -> bool:
        """Go on with the handshake as far as it goes; True when it is over. Raises ssl.SSLError."""
        self._pull()
        try:
            self.object.do_handshake()
            self.established = True
        except ssl.SSLWantReadError:
            pass
        finally:
            self._push()
        return self.established and not self._unsent

    def _pull(self) -> None:
        """Ciphertext from the socket."""
        try:
            while data := self._socket.recv(65536):
                self._incoming.write(data)
            self._incoming.write_eof()
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self._end = ConnectionResetError

    def _push(self) -> None:
        """Ciphertext to the socket, as much as it takes."""
        self._unsent += self._outgoing.read()
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]

    def send(self, data: memoryview) -> int:
        self._push()
        if self._unsent:
            raise BlockingIOError
        taken = self.object.write(data[:RECORD])
        self._push()
        return taken

    def busy(self) -> bool:
        self._push()
        return bool(self._unsent)

    def readable(self) -> bool:
        if not self._plain and self._end is False:
            self._pull()
            try:
                while data := self.object.read(65536):
                    self._plain += data
                self._end = None
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                self._end = None
            except ssl.SSLEOFError:
                self._end = ConnectionResetError
            self._push()
        return bool(self._plain) or self._end is not False

    def receive(self) -> bytes:
        assert self.readable()
        if not self._plain and self._end is not None:
            raise ConnectionResetError("ended without close_notify")
        data, self._plain = self._plain, b""
        return data

    def finish(self) -> None:
        with contextlib.suppress(ssl.SSLError):
            self.object.unwrap()
        self._push()
        self._socket.shutdown(socket.SHUT_WR)

    def say_goodbye(self) -> None:
        """close_notify, where it can still be said."""
        with contextlib.suppress(ssl.SSLError, OSError):
            self.object.unwrap()
        with contextlib.suppress(OSError):
            self._push()
