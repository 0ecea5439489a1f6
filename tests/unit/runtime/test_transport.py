"""Messages over a socketpair and inside one process: framing, descriptors, back-pressure, the other end's death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator

import msgspec
import pytest

from headgate.config.addresses import Bind
from headgate.config.schema import Config, Listener
from headgate.runtime.address import pack_address
from headgate.runtime.messages import (
    Addresses,
    Applied,
    Apply,
    Drain,
    Drained,
    Failed,
    Hello,
    Listen,
    Log,
    Message,
    Probed,
    Rejected,
    ReopenLogs,
    Stop,
    StrategyError,
    Trip,
)
from headgate.runtime.snapshot import Snapshot
from headgate.runtime.transport import DirectChannel, MessageChannel, TransportError

CONFIG = Config(listeners=(Listener(bind=Bind.parse("127.0.0.1:8080"), status_path="/lb/status"),))
SNAPSHOT = Snapshot(
    config=CONFIG,
    generation=7,
    pool_slots={"web": 0},
    backend_slots={("web", "a"): 3},
    addresses={3: [pack_address(socket.AF_INET, ("127.0.0.1", 9001))]},
    sticky_secrets={"web": b"\x00\xff"},
)
EVERY_MESSAGE: list[Message] = [
    Apply(SNAPSHOT),
    Listen(CONFIG.listeners[0]),
    Addresses(3, [b"\x02\x00", b""]),
    Drain(30.0),
    ReopenLogs(),
    Stop(),
    Hello(2, 4711),
    Applied(7),
    Rejected(7, "no such strategy"),
    Failed(3, 1, "connection refused"),
    Trip(3, 4, "5 failures in a row"),
    Probed(3, True, 0),
    StrategyError("web", "ValueError: x"),
    Log("warning", "text"),
    Drained(2),
]


@pytest.fixture
def ends() -> Iterator[tuple[MessageChannel, MessageChannel]]:
    one, other = socket.socketpair()
    first, second = MessageChannel(one), MessageChannel(other)
    yield first, second
    first.close()
    second.close()


def drain(sender: MessageChannel, receiver: MessageChannel) -> list[tuple[Message, list[int]]]:
    got = receiver.receive()
    while not sender.flush() and not receiver.eof:
        got += receiver.receive()
    return got + receiver.receive()


def same_file(one: int, other: int) -> bool:
    return os.path.sameopenfile(one, other)


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda message: type(message).__name__)
def test_every_message_arrives_as_it_was_sent(ends: tuple[MessageChannel, MessageChannel], message: Message) -> None:
    ends[0].send(message)
    assert ends[1].receive() == [(message, [])]


def test_order_is_kept_in_a_long_queue(ends: tuple[MessageChannel, MessageChannel]) -> None:
    sent: list[Message] = [Log("info", f"{number} " + "x" * 1000) for number in range(3000)]
    for message in sent:
        ends[0].send(message)
    assert ends[0].backlog > 0
    assert [message for message, _ in drain(*ends)] == sent
    assert ends[0].backlog == 0


def test_descriptors_go_with_their_message(ends: tuple[MessageChannel, MessageChannel]) -> None:
    files = [os.memfd_create(f"f{number}") for number in range(3)]
    listen = Listen(CONFIG.listeners[0])
    ends[0].send(Stop())
    ends[0].send(listen, files[:1])
    ends[0].send(Log("info", "between"))
    ends[0].send(listen, files[1:])
    got = ends[1].receive()
    assert [len(fds) for _, fds in got] == [0, 1, 0, 2]
    received = [fd for _, fds in got for fd in fds]
    assert all(same_file(one, other) for one, other in zip(files, received, strict=True))
    assert not any(os.get_inheritable(fd) for fd in received)
    for fd in files + received:
        os.close(fd)


def test_queued_descriptors_survive_the_senders_close(ends: tuple[MessageChannel, MessageChannel]) -> None:
    """The caller keeps its descriptor and may close it while the message still waits for room."""
    read, write = os.pipe()
    for _ in range(600):
        ends[0].send(Log("info", "x" * 1000))
    assert ends[0].backlog > 0
    ends[0].send(Listen(CONFIG.listeners[0]), [write])
    os.close(write)
    got = drain(*ends)
    message, fds = got[-1]
    assert isinstance(message, Listen)
    os.write(fds[0], b"x")
    os.close(fds[0])
    assert os.read(read, 10) == b"x"
    assert os.read(read, 10) == b"", "a copy of the descriptor was left open"
    os.close(read)


def test_a_message_larger_than_the_sockets_buffer_keeps_its_descriptor(
    ends: tuple[MessageChannel, MessageChannel],
) -> None:
    addresses = {slot: [bytes(28)] * 8 for slot in range(5000)}
    large = Apply(msgspec.structs.replace(SNAPSHOT, addresses=addresses))
    read, write = os.pipe()
    ends[0].send(large, [write])
    ends[0].send(Stop())
    os.close(write)
    got = drain(*ends)
    assert [message for message, _ in got] == [large, Stop()]
    assert [len(fds) for _, fds in got] == [1, 0]
    os.close(got[0][1][0])
    assert os.read(read, 1) == b""
    os.close(read)


def test_bytes_that_dribble_in_make_one_message(ends: tuple[MessageChannel, MessageChannel]) -> None:
    one, other = socket.socketpair()
    body = msgspec.msgpack.encode(Applied(9))
    frame = struct.pack("!IB", len(body), 0) + body
    channel = MessageChannel(other)
    for byte in frame[:-1]:
        one.send(bytes([byte]))
        assert channel.receive() == []
    one.send(frame[-1:])
    assert channel.receive() == [(Applied(9), [])]
    channel.close()
    one.close()


def test_what_was_sent_before_the_end_is_delivered_with_it(ends: tuple[MessageChannel, MessageChannel]) -> None:
    ends[0].send(Drained())
    ends[0].close()
    assert ends[1].receive() == [(Drained(), [])]
    ends[1].receive()
    assert ends[1].eof
    ends[1].send(Stop())  # to nobody: no exception


def test_sending_to_a_dead_end_does_not_lose_what_it_said_last(ends: tuple[MessageChannel, MessageChannel]) -> None:
    ends[0].send(Log("error", "last words"))
    ends[0].close()
    ends[1].send(Stop())
    assert [message for message, _ in ends[1].receive()] == [Log("error", "last words")]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 20,
        struct.pack("!IB", 3, 0) + b"abc",
        struct.pack("!IB", 1, 200) + b"x",
        struct.pack("!IB", 1, 0) + b"\xc1",
    ],
    ids=["huge", "not msgpack", "too many descriptors", "invalid byte"],
)
def test_a_broken_stream_is_said_so(data: bytes) -> None:
    one, other = socket.socketpair()
    channel = MessageChannel(other)
    one.send(data)
    with pytest.raises(TransportError):
        channel.receive()
    assert channel.eof
    channel.close()
    one.close()


def test_a_reader_that_never_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.runtime.transport._LARGEST_BACKLOG", 100_000)
    one, other = socket.socketpair()
    sender, receiver = MessageChannel(one), MessageChannel(other)
    for _ in range(1000):
        sender.send(Log("info", "x" * 1000))
    assert sender.backlog == 0
    sender.receive()
    assert sender.eof
    receiver.receive()
    receiver.receive()
    assert receiver.eof
    sender.close()
    receiver.close()


def test_descriptors_lost_to_the_limit_do_not_break_the_stream(
    ends: tuple[MessageChannel, MessageChannel],
) -> None:
    resource = pytest.importorskip("resource")
    read, write = os.pipe()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
        ends[0].send(Listen(CONFIG.listeners[0]), [write])
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(write))
        got = ends[1].receive()
        for fd in held:
            os.close(fd)
        held.clear()
        ends[0].send(Listen(CONFIG.listeners[0]), [write])
        got += ends[1].receive()
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert [len(fds) for _, fds in got] == [0, 1]
    for fd in (read, write, *got[1][1]):
        os.close(fd)


async def collect(count: int, watch: Callable[[Callable[[], None]], object], channel: MessageChannel) -> list[Message]:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    got: list[Message] = []

    def readable() -> None:
        got.extend(message for message, _ in channel.receive())
        if len(got) >= count or channel.eof:
            loop.remove_reader(channel.fileno())
            done.set_result(None)

    watch(readable)
    async with asyncio.timeout(10):
        await done
    return got


def test_a_backlog_moves_on_by_itself_under_asyncio(ends: tuple[MessageChannel, MessageChannel]) -> None:
    """`on_backlog` lets the loop wait for room: the sender sends once and is done with it."""

    async def scenario() -> list[Message]:
        loop = asyncio.get_running_loop()
        sender, receiver = ends

        def writable() -> None:
            if sender.flush():
                loop.remove_writer(sender.fileno())

        sender.on_backlog = lambda: loop.add_writer(sender.fileno(), writable)
        for number in range(2000):
            sender.send(Log("info", f"{number}" + "x" * 1000))
        return await collect(2000, lambda callback: receiver.watch(callback, loop.add_reader), receiver)

    got = asyncio.run(scenario())
    assert len(got) == 2000


class TestDirectChannel:
    def test_messages_arrive_later_and_in_order(self) -> None:
        later: deque[Callable[[], None]] = deque()
        one, other = DirectChannel.pair(later.append)
        got: list[Message] = []
        other.watch(lambda: got.extend(message for message, _ in other.receive()), lambda *_: None)
        one.send(Stop())
        one.send(Applied(1))
        assert got == [], "delivered from inside send"
        assert len(later) == 1, "one wake-up for a burst"
        later.popleft()()
        assert got == [Stop(), Applied(1)]
        assert other.receive() == []

    def test_watching_late_finds_what_waits(self) -> None:
        later: deque[Callable[[], None]] = deque()
        one, other = DirectChannel.pair(later.append)
        one.send(Stop())
        calls: list[int] = []
        other.watch(lambda: calls.append(len(other.receive())), lambda *_: None)
        later.popleft()()
        assert calls == [1]

    def test_the_receiver_owns_its_descriptors(self) -> None:
        read, write = os.pipe()
        one, other = DirectChannel.pair(lambda callback: None)
        one.send(Listen(CONFIG.listeners[0]), [write])
        os.close(write)
        ((_, fds),) = other.receive()
        os.write(fds[0], b"x")
        os.close(fds[0])
        assert os.read(read, 2) == b"x"
        os.close(read)

    def test_closing_shows_after_the_last_message(self) -> None:
        later: deque[Callable[[], None]] = deque()
        one, other = DirectChannel.pair(later.append)
        woken: list[bool] = []
        other.watch(lambda: woken.append(True), lambda *_: None)
        one.send(Stop())
        one.close()
        while later:
            later.popleft()()
        assert woken
        assert not other.eof
        assert other.receive() == [(Stop(), [])]
        assert other.eof
        other.send(Drained())
