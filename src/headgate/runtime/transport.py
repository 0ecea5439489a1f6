"""How messages travel: over a socket between two processes, or handed over inside one.

`MessageChannel` frames messages on a unix stream socketpair: four bytes of length, one byte with the number of
descriptors, then msgpack. Descriptors go along as SCM_RIGHTS on the first byte of their frame (unix(7)); Linux ends a
read behind the bytes that carried descriptors, so each frame that announces some owns exactly one batch of them.

`DirectChannel` joins a controller and a worker agent in one process. Both kinds never block, and never call the
receiver from inside `send`: a message is handled after whatever sent it has returned.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from headgate.runtime.messages import Message

_HEADER = struct.Struct("!IB")
# A snapshot with 10,000 backends is about 2 MB; more than this is a broken stream, not a message.
_LARGEST = 256 * 1024 * 1024
# What a peer that stopped reading may cost before it is given up as dead.
_LARGEST_BACKLOG = 64 * 1024 * 1024
_READ = 256 * 1024
_MOST_DESCRIPTORS = 16

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)

Received = tuple[Message, list[int]]


class TransportError(ConnectionError):
    """The stream makes no sense (a broken frame). The channel is closed by then."""


class Channel(Protocol):
    """One end of a conversation between the controller and one worker."""

    @property
    def eof(self) -> bool:
        """The other end is gone. What it sent before has still been delivered."""

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Queue a message. The descriptors stay the caller's: the channel copies what it must keep.

        Never blocks, and raises nothing when the other end is gone: `eof` turns true and the reader is woken.
        """

    def receive(self) -> list[Received]:
        """All complete messages that are there, each with its descriptors, which become the caller's to close.

        Raises TransportError for a broken stream.
        """

    def watch(self, callback: Callable[[], None], add_reader: Callable[[int, Callable[[], None]], object]) -> None:
        """Have `callback` called whenever `receive()` or `eof` may have something new.

        `add_reader` is `loop.add_reader` or `engine.watch`; level-triggered.
        """

    def fileno(self) -> int:
        """The descriptor to watch, or -1 when there is none."""

    def flush(self) -> bool:
        """Try to send what is queued; true when nothing is left."""

    def close(self) -> None:
        """Close this end. The other end sees `eof`. Stop watching first."""


class MessageChannel:
    """A channel over one end of a connected unix stream socket, which it owns and sets non-blocking.

    What the kernel does not take at once is queued. `on_backlog` (optional) is called when the queue becomes
    non-empty, so that an event loop can wait for room and call `flush()`; without it the queue moves on with the next
    `send`, `receive` or `flush`.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._outgoing: deque[tuple[memoryview, list[int]]] = deque()
        self._backlog = 0
        self._incoming = bytearray()
        self._batches: deque[list[int]] = deque()
        self._eof = False
        self.on_backlog: Callable[[], None] | None = None

    @property
    def eof(self) -> bool:
        return self._eof

    @property
    def backlog(self) -> int:
        """Bytes queued here because the other end does not read."""
        return self._backlog

    def fileno(self) -> int:
        return self._sock.fileno()

    def watch(self, callback: Callable[[], None], add_reader: Callable[[int, Callable[[], None]], object]) -> None:
        add_reader(self._sock.fileno(), callback)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        if len(fds) > _MOST_DESCRIPTORS:
            raise ValueError(f"at most {_MOST_DESCRIPTORS} descriptors go with one message, not {len(fds)}")
        if self._eof:
            return
        body = _encoder.encode(message)
        frame = memoryview(_HEADER.pack(len(body), len(fds)) + body)
        if self._outgoing and not self.flush():
            self._queue(frame, list(fds))
            return
        rest = self._write(frame, fds)
        if rest is not None and not self._eof:
            # Descriptors travel with the first byte: once any of it is out, so are they.
            self._queue(rest, list(fds) if len(rest) == len(frame) else [])

    def flush(self) -> bool:
        while self._outgoing and not self._eof:
            frame, fds = self._outgoing[0]
            rest = self._write(frame, fds)
            if rest is not None:
                if len(rest) < len(frame):
                    self._backlog -= len(frame) - len(rest)
                    _close_all(fds)
                    self._outgoing[0] = (rest, [])
                return False
            self._backlog -= len(frame)
            _close_all(fds)
            self._outgoing.popleft()
        return not self._outgoing

    def receive(self) -> list[Received]:
        self.flush()
        messages: list[Received] = []
        while not self._eof:
            try:
                data, ancillary, _flags, _ = self._sock.recvmsg(
                    _READ, socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                break
            except InterruptedError:
                continue
            except OSError:  # ECONNRESET: the other end closed with our bytes unread
                self._gone()
                break
            self._keep(ancillary, bool(_flags & socket.MSG_CTRUNC))
            if not data:
                self._gone()
                break
            self._incoming += data
            try:
                self._take(messages)
            except (msgspec.DecodeError, TransportError) as error:
                self._gone()
                raise TransportError(f"broken message on the control channel: {error}") from error
            if len(data) < _READ and not ancillary:
                break  # the socket is empty; level-triggered watching tells when it is not
        return messages

    def close(self) -> None:
        self._gone()
        self._sock.close()

    def _write(self, frame: memoryview, fds: Sequence[int]) -> memoryview | None:
        """Send without blocking; what is left, or None when all of it went (or nobody is there to get it)."""
        while frame:
            try:
                if fds:
                    sent = self._sock.sendmsg(
                        [frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))], socket.MSG_NOSIGNAL
                    )
                    fds = ()
                else:
                    sent = self._sock.send(frame, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return frame
            except InterruptedError:
                continue
            except OSError:
                # EPIPE or ECONNRESET. Not `_gone`: what the other end sent before it went is still to be read, and
                # reading it ends with the EOF that wakes the reader.
                self._drop_outgoing()
                return None
            frame = frame[sent:]
        return None

    def _queue(self, frame: memoryview, fds: list[int]) -> None:
        was_empty = not self._outgoing
        self._outgoing.append((frame, [os.dup(fd) for fd in fds]))
        self._backlog += len(frame)
        if self._backlog > _LARGEST_BACKLOG:
            # It has not read for a long time. Shutting down wakes both readers with EOF.
            self._drop_outgoing()
            self._shutdown()
        elif was_empty and self.on_backlog is not None:
            self.on_backlog()

    def _keep(self, ancillary: list[tuple[int, int, bytes]], truncated: bool) -> None:
        batch: list[int] = []
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
                batch.extend(fds)
        # Truncated: this process is out of descriptors. The frame gets fewer than it announced, the stream stays sound.
        if batch or truncated:
            self._batches.append(batch)

    def _take(self, messages: list[Received]) -> None:
        position = 0
        buffer = self._incoming
        while len(buffer) - position >= _HEADER.size:
            length, count = _HEADER.unpack_from(buffer, position)
            if length > _LARGEST or count > _MOST_DESCRIPTORS:
                raise TransportError(f"a frame of {length} bytes with {count} descriptors")
            end = position + _HEADER.size + length
            if len(buffer) < end:
                break
            fds = self._batches.popleft() if count and self._batches else []
            try:
                message = _decoder.decode(bytes(buffer[position + _HEADER.size : end]))
            except msgspec.DecodeError:
                _close_all(fds)
                raise
            messages.append((message, fds))
            position = end
        del buffer[:position]

    def _gone(self) -> None:
        self._eof = True
        self._drop_outgoing()
        while self._batches:
            _close_all(self._batches.popleft())

    def _drop_outgoing(self) -> None:
        while self._outgoing:
            _close_all(self._outgoing.popleft()[1])
        self._backlog = 0

    def _shutdown(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            self._eof = True


class DirectChannel:
    """One of two ends in the same process and thread. Messages are handed over as they are: they are immutable.

    `schedule` is `loop.call_soon` (or anything else that runs a function later, in order): the other end's callback
    runs from there, once per burst, never from inside `send`.
    """

    def __init__(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        self._schedule = schedule
        self._peer: DirectChannel | None = None
        self._inbox: deque[Received] = deque()
        self._callback: Callable[[], None] | None = None
        self._woken = False
        self._eof = False

    @classmethod
    def pair(cls, schedule: Callable[[Callable[[], None]], object]) -> tuple[DirectChannel, DirectChannel]:
        """Two connected ends."""
        one, other = cls(schedule), cls(schedule)
        one._peer, other._peer = other, one
        return one, other

    @property
    def eof(self) -> bool:
        return self._eof and not self._inbox

    @property
    def backlog(self) -> int:
        return 0

    def fileno(self) -> int:
        return -1

    def watch(self, callback: Callable[[], None], add_reader: Callable[[int, Callable[[], None]], object]) -> None:
        self._callback = callback
        if self._inbox or self._eof:
            self._wake()

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        peer = self._peer
        if peer is None or peer._eof:
            return
        peer._inbox.append((message, [os.dup(fd) for fd in fds]))
        peer._wake()

    def receive(self) -> list[Received]:
        messages = list(self._inbox)
        self._inbox.clear()
        return messages

    def flush(self) -> bool:
        return True

    def deliver(self) -> None:
        """Let the other end have what was sent now, instead of in the loop's next turn. Only for who was called by the
        loop itself: the other end's callback runs from here."""
        if self._peer is not None and self._peer._inbox:
            self._peer._run()

    def close(self) -> None:
        peer, self._peer = self._peer, None
        self._eof = True
        self._callback = None
        for _, fds in self._inbox:
            _close_all(fds)
        self._inbox.clear()
        if peer is not None:
            peer._peer = None
            peer._eof = True
            peer._wake()

    def _wake(self) -> None:
        if self._callback is not None and not self._woken:
            self._woken = True
            self._schedule(self._run)

    def _run(self) -> None:
        self._woken = False
        if self._callback is not None:
            self._callback()


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
