"""A worker that does not read must not make the controller's memory grow with every snapshot."""

from __future__ import annotations

import asyncio
import socket

from headgate.config.addresses import BackendUrl
from headgate.config.schema import Backend, Config, Health, Pool
from headgate.engine.stats import Segment
from headgate.runtime.controller import Controller
from headgate.runtime.messages import Applied, Apply, Hello, Message
from headgate.runtime.transport import MessageChannel


def test_snapshots_do_not_pile_up_and_the_last_one_arrives() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        backends = tuple(
            Backend(url=BackendUrl.parse(f"http://127.0.0.1:{port}"), name=f"{port}" + "x" * 150)
            for port in range(10_000, 14_000)
        )
        config = Config(pools={"web": Pool(backends=backends, health=Health(type="none"))})
        ours, theirs = socket.socketpair()
        channel, worker = MessageChannel(ours), MessageChannel(theirs)
        with Segment.create(1, backends=4096, pools=2) as segment:
            controller = Controller(config, segment, loop=loop, secret=b"s" * 32)
            link = controller.attach(channel)
            await asyncio.sleep(0)
            assert link.busy, "one snapshot of 4,000 backends is more than the socket takes"
            one = channel.backlog
            for weight in range(20):
                controller.set_weight("web", backends[0].name, weight)
                await asyncio.sleep(0)
            assert channel.backlog <= one

            got: list[Message] = []
            arrived = asyncio.Event()

            def readable() -> None:
                for message, _ in worker.receive():
                    got.append(message)
                    if isinstance(message, Apply) and message.snapshot.generation == controller.generation:
                        worker.send(Applied(message.snapshot.generation))
                        arrived.set()

            worker.watch(readable, loop.add_reader)
            async with asyncio.timeout(10):
                await arrived.wait()
            assert await controller.applied(5)
            assert len(got) == 2
            last = got[-1]
            assert isinstance(last, Apply)
            assert last.snapshot.config.pools["web"].backends[0].weight == 19
            loop.remove_reader(worker.fileno())
            controller.close()
            worker.close()

    asyncio.run(scenario())


def test_garbage_from_a_worker_ends_its_link_and_nothing_else() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with Segment.create(1, backends=8, pools=2) as segment, theirs:
            controller = Controller(Config(), segment, loop=loop, secret=b"s" * 32)
            gone = asyncio.Event()
            controller.on_gone = lambda link: gone.set()
            controller.attach(MessageChannel(ours))
            theirs.send(b"\xff" * 100)
            async with asyncio.timeout(10):
                await gone.wait()
            assert controller.links == ()
            controller.close()

    asyncio.run(scenario())


def test_last_words_are_heard() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with Segment.create(1, backends=8, pools=2) as segment:
            controller = Controller(Config(), segment, loop=loop, secret=b"s" * 32)
            link = controller.attach(MessageChannel(ours))
            worker = MessageChannel(theirs)
            worker.send(Hello(0, 4711))
            worker.close()
            link.read_last_words()
            assert link.pid == 4711
            controller.detach(link)
            assert link.closed
            controller.close()

    asyncio.run(scenario())
