"""The listening sockets of a supervisor: bound once, handed to every worker, added and removed by reloads.

They come from three places: bound by us, opened by systemd (socket activation), or inherited from the version before
(upgrade). A listener is known by its address as the configuration writes it; where that says port 0, the socket knows
the real one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Iterable, Sequence

from headgate.config.addresses import Bind
from headgate.config.schema import Listener
from headgate.runtime import closing
from headgate.runtime.links import Link
from headgate.runtime.messages import Listen
from headgate.runtime.sockets import BoundSocket, CannotBind, bind_one

log = logging.getLogger("headgate.supervisor")


class Listening:
    """What is bound. holder: tells who has an address that is taken. given: sockets that others opened for us."""

    def __init__(self, holder: Callable[[Bind], str] = lambda bind: "", given: Sequence[socket.socket] = ()) -> None:
        self._holder = holder
        self._given = list(given)
        self._bound: dict[str, BoundSocket] = {}
        self._listeners: tuple[Listener, ...] = ()

    @property
    def bound(self) -> dict[str, BoundSocket]:
        """By the address as configured."""
        return self._bound

    @property
    def binds(self) -> list[Bind]:
        """The addresses really bound, in the order of the configuration."""
        return [self._bound[listener.bind.text].bind for listener in self._listeners]

    def adopt(self, text: str, bound: BoundSocket) -> None:
        """A socket that the version before listened on."""
        self._bound[text] = bound

    def prepare(self, listeners: Iterable[Listener]) -> dict[str, BoundSocket]:
        """Bind what is not bound yet, all or nothing. Raises CannotBind, which names all that failed.

        What comes back is not ours before `commit`; `discard` it if there is none.
        """
        fresh: dict[str, BoundSocket] = {}
        failed: list[str] = []
        for listener in listeners:
            bind = listener.bind
            if bind.text in self._bound:
                continue
            try:
                fresh[bind.text] = self._take(bind) or bind_one(bind, self._holder)
            except CannotBind as error:
                ours = next((text for text, old in self._bound.items() if old.bind.overlaps(bind)), "")
                hint = f" (our own {ours}: remove that in one reload, add this in the next)" if ours else ""
                failed.append(f"{error}{hint}")
        if failed:
            discard(fresh)
            raise CannotBind("\n".join(failed))
        return fresh

    def commit(self, listeners: Sequence[Listener], fresh: dict[str, BoundSocket]) -> list[str]:
        """These are the listeners now. Closes our copies of those that are no longer; returns their addresses.

        (Workers close theirs when they apply the configuration; the last one takes in who still stands in the queue.)
        """
        self._bound |= fresh
        self._listeners = tuple(listeners)
        wanted = {listener.bind.text for listener in listeners}
        gone = [text for text in self._bound if text not in wanted]
        for text in gone:
            self._bound.pop(text).close()
        return gone

    def listen(self, texts: Iterable[str] | None = None) -> None:
        """Let clients in; at these addresses, or at all. Raises CannotBind."""
        for text in self._bound if texts is None else texts:
            self._bound[text].listen()

    def hand_out(self, link: Link, texts: Iterable[str] | None = None) -> None:
        """Give a worker the sockets of these addresses, or all."""
        wanted = self._bound.keys() if texts is None else set(texts)
        for listener in self._listeners:
            if listener.bind.text in wanted:
                link.send(Listen(listener), [self._bound[listener.bind.text].sock.fileno()])

    async def let_in_no_more(self, staying: Collection[str] = ()) -> None:
        """To be awaited before workers are told to close listeners, all but these: nobody comes into their queues any
        more, and who was about to has arrived."""
        leaving = [one.sock for text, one in self._bound.items() if text not in staying and not one.shared]
        if wait_s := closing.let_in_no_more(leaving):
            await asyncio.sleep(wait_s)

    def let_in_again(self) -> None:
        """Take back `let_in_no_more`."""
        closing.let_in_again(one.sock for one in self._bound.values())

    def close(self) -> None:
        """Close our copies of all."""
        discard(self._bound)
        for sock in self._given:
            sock.close()
        self._given.clear()

    def no_more_given(self) -> None:
        """Every listener has its socket: what was given to us and fits none is closed."""
        for sock in self._given:
            log.warning("the service manager's socket %s fits no listener: closed", sock.getsockname())
            sock.close()
        self._given.clear()

    def _take(self, bind: Bind) -> BoundSocket | None:
        """The socket that was given to us for this address, if one was."""
        for sock in self._given:
            if fits(bind, sock):
                self._given.remove(sock)
                return BoundSocket(sock, bind, shared=True)
        return None


def discard(bound: dict[str, BoundSocket]) -> None:
    """Close them all."""
    for one in bound.values():
        one.close()
    bound.clear()


def fits(bind: Bind, sock: socket.socket) -> bool:
    """Is this socket bound where this listener wants to be?"""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return bind.family == "unix" and name == bind.path
    if bind.family == "unix" or name[1] != bind.port:
        return False
    host = name[0].partition("%")[0]
    if bind.family == "dual":
        return host == "::" or (host == "0.0.0.0" and sock.family == socket.AF_INET)
    return bool(host == bind.host)
