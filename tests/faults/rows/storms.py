"""Beside the matrix: connection storms, and a backend that is ten times as slow as the other."""

from __future__ import annotations

import contextlib
import time

from .. import sockets
from ..load import Ask, in_process, quantile
from ..matrix import row
from ..relay import Fate, Relay
from ..servers import Connection
from ..world import GET, World


@row("x1")
def connection_storm(world: World) -> None:
    """2,000 new connections a second, each with one request: every one is served."""
    world.backends(3)
    world.headgate()
    bystanders = world.load(GET)
    world.run(1)
    address = world.address
    seconds = 10.0 if world.long else 1.0
    request = b"GET /?size=100 HTTP/1.1\r\nHost: h\r\nX-Id: s\r\nConnection: close\r\n\r\n"
    overflows = sockets.listen_overflows()
    parts = [in_process(lambda: sockets.storm(address, 1000, seconds, request)) for _ in range(2)]
    done: list[sockets.Hasty] = []
    for part in parts:
        each = part()
        assert isinstance(each, list)
        done += each
    others = bystanders.stop()
    failed = [hasty for hasty in done if not hasty.ok]
    took = [hasty.end - hasty.start for hasty in done]
    lasted = max(hasty.start for hasty in done) - min(hasty.start for hasty in done)
    dropped = sockets.listen_overflows() - overflows
    world.note(
        connections=len(done), rate=len(done) / lasted, storm_p99=quantile(took, 0.99), dropped_by_kernel=dropped
    )
    assert len(done) == 2000 * seconds
    # Where the balancer does not get the processor to accept them, the kernel drops what its queue has no room for.
    assert not failed, (len(failed), failed[:3], f"{dropped} dropped by the kernel, its queue was full")
    world.none_failed(others, "others")


@row("x2")
def one_of_two_ten_times_slower(world: World) -> None:
    """One of two backends at 10 x latency: 0 failed, nobody is taken out, and who gets the fast one is not held up."""

    def script(connection: Connection) -> None:
        while (request := connection.head()) is not None:
            time.sleep(0.01)
            connection.serve(request)

    def far_away(mode: int, _: int) -> Fate:
        return Fate(delay_s=0.045 if mode else 0.0)

    slow, fast = world.backends(2, script)
    with contextlib.closing(Relay(slow.port.address, far_away)) as relay:
        world.headgate(urls=[relay.url, fast.url])
        load = world.load(GET, Ask("POST"))
        world.run(1)
        fault = time.monotonic()
        relay.tell(1)
        world.run(2)
        result = load.stop()
    world.none_failed(result)
    world.once(result)
    after = result.between(fault)
    world.note(share_of_the_slow=after.backends[slow.name] / len(after))
    world.as_fast(after.where(lambda sample: sample.backend == fast.name), result.between(0, fault))
    assert [backend["state"] for backend in world.status()["backends"]] == ["up", "up"]
