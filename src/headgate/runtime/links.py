"""One attached worker as the controller sees it: its channel, who it is, and which snapshot it runs."""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence

from headgate.runtime.messages import Message
from headgate.runtime.transport import Channel, DirectChannel, MessageChannel, TransportError

log = logging.getLogger("headgate.control")


class Link:
    """Reads a worker's channel in an event loop and keeps what its messages said about it.

    received: called with every message (and the link). gone: called once at the channel's end.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        channel: MessageChannel | DirectChannel,
        worker: int,
        received: Callable[[Link, Message], None],
        gone: Callable[[Link], None],
    ) -> None:
        self._loop = loop
        self._channel: Channel = channel
        self._received = received
        self._gone = gone
        self._writing = False
        self.worker = worker
        self.pid = 0
        self.generation = 0
        """The last generation it acknowledged."""
        self.rejected = ""
        """Why it could not become the last snapshot; "" when it could."""
        self.drained = False
        self.closed = False
        if isinstance(channel, MessageChannel):
            channel.on_backlog = self._wait_for_room
        channel.watch(self._readable, loop.add_reader)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send, or do nothing when the worker is gone."""
        if not self.closed:
            self._channel.send(message, fds)

    def deliver(self) -> None:
        """To a worker in this process: now. In another one, messages are on their way as it is."""
        if isinstance(self._channel, DirectChannel):
            self._channel.deliver()

    def fileno(self) -> int:
        """The channel's descriptor; -1 when it has none."""
        return self._channel.fileno()

    @property
    def busy(self) -> bool:
        """Earlier messages still wait for the worker to read them."""
        return self._writing

    def read_last_words(self) -> None:
        """The worker has ended: read what it said before, without waiting for the loop to notice."""
        self._readable()

    def close(self) -> None:
        """Let go of the channel; the worker sees its end. `gone` is not called."""
        if self.closed:
            return
        self.closed = True
        descriptor = self._channel.fileno()
        if descriptor >= 0:
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)
        self._channel.close()

    def _readable(self) -> None:
        if self.closed:
            return
        try:
            received = self._channel.receive()
        except TransportError as error:
            log.error("worker %d: %s", self.worker, error)
            received = []
        for message, _ in received:  # no message to the controller carries a descriptor
            self._received(self, message)
        if self._channel.eof and not self.closed:
            self.close()
            self._gone(self)

    def _wait_for_room(self) -> None:
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self._channel.fileno(), self._writable)

    def _writable(self) -> None:
        if self._channel.flush() or self._channel.eof:
            self._writing = False
            self._loop.remove_writer(self._channel.fileno())
