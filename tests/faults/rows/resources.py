"""Descriptors, ports, memory and the log's reader run out; ten thousand clients that say nothing."""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import select
import socket
import time
from collections import Counter
from pathlib import Path

from .. import network
from ..load import Ask, connect, in_process
from ..matrix import row
from ..servers import Connection, path_of
from ..world import CLIENTS, GET, World, awaited


@row(23)
def descriptors_run_out(world: World) -> None:
    """nofile=128: no crash, no busy loop (CPU < 20 %), accepting resumes as descriptors return, few log lines."""
    world.backends(3)
    prlimit = network.tool("prlimit") or "prlimit"
    world.headgate(prefix=[prlimit, "--nofile=128:128"])
    worker = world.worker
    # Idle clients take every place there is, and more wait at the door.
    held = []
    for _ in range(200):
        sock = connect(world.address)
        sock.sendall(b"GET /?size=10 HTTP/1.1\r\nHost: h\r\nX-Id: x\r\n\r\n")
        held.append(sock)
    poller = select.poll()
    for sock in held:
        poller.register(sock, select.POLLIN)
    answered: set[int] = set()
    news = time.monotonic()
    while time.monotonic() < news + 1.5:  # nobody more for so long: those that are in are in
        if more := {fd for fd, _ in poller.poll(50)} - answered:
            answered |= more
            news = time.monotonic()
        time.sleep(0.02)
    used, start = world.processor_s(), time.monotonic()
    world.run(1.5, 10)
    share = (world.processor_s() - used) / (time.monotonic() - start)
    served_while_full = len(answered)
    assert share < 0.2, share
    assert 20 < served_while_full < 128, served_while_full
    # It keeps room for connections to backends, so nothing was short yet. Now less is allowed than it knows of, and all
    # that are in ask at once for what takes a while: who needs another connection is told so, and the log once.
    begun = time.monotonic()
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (world.descriptors(), 128))
    inside = [sock for sock in held if sock.fileno() in answered]
    said: Counter[str] = Counter()
    for _ in range(5):
        for sock in inside:
            sock.recv(65536)
            sock.sendall(b"GET /?size=10&wait=200 HTTP/1.1\r\nHost: h\r\nX-Id: x\r\n\r\n")
        for sock in inside:
            assert select.select([sock], [], [], 10)[0], "neither an answer nor an end"
            said[sock.recv(65536, socket.MSG_PEEK)[9:12].decode()] += 1
    world.wait_errors("out of open files")  # the worker tells the supervisor, which writes it
    shortages = [line for line in world.errors.splitlines() if "out of open files" in line]
    world.note(served_while_full=served_while_full, processor_share=share, short=dict(said), lines=len(shortages))
    assert set(said) == {"200", "503"}, said
    assert 1 <= len(shortages) <= 1 + (time.monotonic() - begun), shortages
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (128, 128))
    assert world.worker == worker, "the worker did not survive"
    # Who is in leaves: those at the door are let in and served.
    for sock in held:
        if sock.fileno() in answered:
            poller.unregister(sock)
            sock.close()
    waiting = {sock.fileno() for sock in held if sock.fileno() >= 0}
    deadline = time.monotonic() + 15
    while waiting and time.monotonic() < deadline:
        for fd, _ in poller.poll(50):
            waiting.discard(fd)
            poller.unregister(fd)
            next(sock for sock in held if sock.fileno() == fd).close()
    assert not waiting, f"{len(waiting)} clients were never served"
    load = world.load(GET, clients=30)
    world.run(1)
    world.none_failed(load.stop(), "afterwards")
    assert [backend["failed"] for backend in world.status()["backends"]] == [0, 0, 0], (
        "our shortage is nobody's failure"
    )


@row(24)
def ports_run_out(world: World) -> None:
    """64 ephemeral ports: what has none is 503 at once, idle connections are used first; recovery within 2 s."""
    # The clients come by a unix socket: the ports are the balancer's alone. One backend, since each has all the ports.
    (server,) = world.backends(1)
    door = str(world.directory / "headgate.sock")
    world.headgate(bind=f"unix:{door}")
    network.ephemeral_ports(20_000, 64)
    few = world.load(Ask(target="/?wait=300"), clients=30, rate=0, name="f")
    world.run(1)
    control = few.stop()
    world.none_failed(control, "before")
    crowd = world.load(Ask(target="/?wait=300"), clients=120, rate=0, name="w")
    world.run(1.5)
    during = crowd.stop()
    ok, refused = during.where(lambda sample: not sample.failed), during.where(lambda sample: bool(sample.failed))
    world.note(served=len(ok), refused=len(refused))
    assert set(refused.statuses) <= {502, 503}, refused.reasons
    assert len(refused) > 0, "the ports never ran out"
    assert len(ok) >= 64, "the ports that there are were not used"
    # At once, not by some timeout (to connect: 1 s); and who has a port is not held up by those who have none.
    world.as_fast(refused, control, "refused p99")
    world.as_fast(ok, control, "served p99")
    # All that held a port has ended by now, so nobody has to wait for one: that is sooner than the 2 s allowed.
    load = world.load(GET, Ask("POST"), clients=30)
    world.run(1.5)
    world.none_failed(load.stop(), "afterwards")
    backend = world.backend(server)
    assert (backend["state"], backend["failed"]) == ("up", 0), backend
    # At most 64 were ever open to it at a time, and far more requests were served: kept ones were used first.
    world.note(opened=backend["openedConnections"], reused=backend["reusedConnections"])
    assert backend["reusedConnections"] > backend["openedConnections"]


@row(26)
def nobody_reads_the_log(world: World) -> None:
    """The reader of the log's pipe is stopped: the data path never blocks; what is lost is counted."""
    world.backends(3)
    read_fd, write_fd = os.pipe()
    world.headgate(stdout=write_fd)
    os.close(write_fd)
    load = world.load(Ask(target=f"/{'x' * 1500}"), rate=40)
    start = time.monotonic()

    def drain(until: float) -> int:
        poller, taken = select.poll(), 0
        poller.register(read_fd, select.POLLIN)
        while time.monotonic() < until:
            if poller.poll(20):
                taken += len(os.read(read_fd, 1 << 20))
        return taken

    drain(start + (3 if world.long else 1.2))
    # From here on nobody reads: a pipe holds 64 KiB, and the balancer's own buffer has an end too.
    stopped = time.monotonic()
    world.run(2, 60)
    world.more(load, 200)
    result = load.stop()
    world.none_failed(result)
    world.as_fast(result.between(stopped), result.between(start, stopped))
    dropped = world.totals()["logDropped"]
    world.note(dropped=dropped)
    # The reader comes back, and so do the lines: those that wait, and, once they have made room, new ones.
    os.set_blocking(read_fd, False)
    came = b""

    def back() -> bool:
        nonlocal came
        world.get("/?size=1")
        if select.select([read_fd], [], [], 0.1)[0]:
            came += os.read(read_fd, 1 << 20)
        return len(came) > 60_000 and b"/?size=1 " in came

    awaited(back, "the lines to come again after the reader")
    os.close(read_fd)


@row(27)
def memory_pressure(world: World) -> None:
    """A cap on buffers: 503 above it, no growth beyond it, and all is well again afterwards."""

    def script(connection: Connection) -> None:
        while (request := connection.head()) is not None:
            if path_of(request) != "/deaf":
                connection.serve(request)
                continue
            # Reads no body, so the balancer must hold what the client sends.
            time.sleep(3600)

    world.backends(3, script)
    # A container with 256 MB, as the balancer sees it: a quarter of that is for buffers.
    limit = 256 * 2**20
    network.command("mount", "-t", "tmpfs", "tmpfs", "/sys/fs/cgroup")
    Path("/sys/fs/cgroup/memory.max").write_text(f"{limit}\n")
    world.headgate(pool={"timeouts": {"first_byte": "30s"}})
    load = world.load(GET)
    control = world.run(1)
    before = world.memory()
    cap = limit // 4
    address = world.address
    # Each announces more than a buffer and sends it, and its backend takes nothing beyond what the kernel holds.
    piece = b"x" * 65536
    shared = mmap.mmap(-1, 8)  # 1: they are done

    def fill() -> Counter[str]:
        open_: list[socket.socket] = []
        seen: Counter[str] = Counter()
        for number in range(cap // 65536 * 3):
            sock = connect(address)
            sock.setblocking(False)
            head = f"PUT /deaf HTTP/1.1\r\nHost: h\r\nX-Id: m{number}\r\nContent-Length: 100000000\r\n\r\n".encode()
            sock.send(head + piece[:8192])
            open_.append(sock)
        end = time.monotonic() + 40
        while open_ and time.monotonic() < end:
            for sock in list(open_):
                with contextlib.suppress(OSError):
                    sock.send(piece)
                try:
                    answer = sock.recv(65536)
                except BlockingIOError:
                    continue
                except OSError as error:
                    answer = b"HTTP/1.1 " + type(error).__name__.encode()
                seen[answer[9:].split(b" ")[0].decode()] += 1
                if seen.total() == 50:
                    # The cap is reached; stay there for a moment.
                    end = min(end, time.monotonic() + 0.7)
                open_.remove(sock)
                sock.close()
            time.sleep(0.01)
        for sock in open_:
            sock.close()
        shared[0] = 1
        return seen

    filling = in_process(fill)
    most = before
    while not shared[0]:
        most = max(most, world.memory())
        time.sleep(0.02)
    seen = filling()
    assert isinstance(seen, Counter)
    # They are thousands: it takes a moment until the end of each was seen, and its buffer is free.
    ended = awaited(lambda: of_others(world) <= 0, "the end of those that filled it")
    world.run(1)
    result = load.stop()
    world.note(cap_kib=cap // 1024, growth_kib=(most - before) // 1024, filled=dict(seen))
    # Beside the buffers: what an exchange is otherwise, some KiB for each of the thousands.
    # The cap is on buffers. Beside them an exchange takes some 2.5 KiB, and there were thousands at a time.
    assert most - before < cap + 4096 * (cap // 65536 * 3), (most - before, cap)
    # Above the cap others are told 503, and nothing worse; below it, before and after, nobody is told anything.
    assert set(result.reasons) <= {"GET status 503"}, result.reasons
    world.none_failed(result.between(0, control), "before")
    world.none_failed(result.between(ended), "afterwards")
    assert seen["503"] > 0, seen


def of_others(world: World) -> int:
    """Connections that are none of the load's, nor that which asks."""
    answer = world.get("/lb/status")
    if answer.status != 200:
        return 1
    connections = answer.json()["totals"]["connections"]
    assert isinstance(connections, int)
    return connections - CLIENTS - 1


@row(44)
def idle_clients(world: World) -> None:
    """10,000 idle keep-alive connections: a small and known cost for each; new connections are as fast as before."""
    count = 10_000 if not world.long else 15_000
    world.backends(3)
    world.headgate(top={"workers": 1})
    fresh = Ask(close=True)
    load = world.load(fresh, rate=8)
    control = world.run(1.2)
    before = world.memory()
    address = world.address
    shared = mmap.mmap(-1, 8)  # 1: enough

    def idle() -> int:
        """Opens them, uses each once, and holds them until the row says so."""
        held = []
        request = b"GET /?size=10 HTTP/1.1\r\nHost: h\r\nX-Id: x\r\n\r\n"
        served = 0
        for start in range(0, count, 200):
            batch = [connect(address) for _ in range(start, min(count, start + 200))]
            for sock in batch:
                sock.sendall(request)
            for sock in batch:
                served += sock.recv(4096).startswith(b"HTTP/1.1 200")
            held += batch
        while not shared[0]:
            time.sleep(0.02)
        for sock in held:
            sock.close()
        return served

    holding = in_process(idle)
    # However long a busy machine takes to open so many: as long as there are more and more of them.
    began = time.monotonic()
    while (idle_now := world.totals()["connections"]) < count:
        what = f"more than {idle_now} clients to be idle, {time.monotonic() - began:.0f} s after the first"
        awaited(lambda many=idle_now: world.totals()["connections"] > many, what, 20)  # type: ignore[misc]
    opened = time.monotonic()
    end = world.run(1)
    per_connection = (world.memory() - before) / count
    result = load.stop()  # before ten thousand ends have to be seen to
    shared[0] = 1
    assert holding() == count
    world.note(bytes_per_connection=per_connection)
    # nginx takes 550 and HAProxy 1,140 bytes; this is an upper bound for what an allocator makes of some hundred.
    assert per_connection < 1500, per_connection
    world.none_failed(result)
    world.as_fast(result.between(opened, end), result.between(0, control))
