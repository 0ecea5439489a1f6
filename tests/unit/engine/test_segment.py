"""The shared segment, in one process and in several that map the same memory."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.engine import stats
from headgate.engine.stats import EJECTION_CAUSES, PENALTY_STATUSES, BackendTotals, Segment
from headgate.errors import Kind
from headgate.resilience.cause import Cause


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment.create(3, backends=200, pools=4) as made:
        yield made


def spawn(segment: Segment, script: str, *arguments: int) -> subprocess.Popen[str]:
    """A process that has the segment open as `segment` and runs `script`."""
    head = "import sys\nfrom headgate.engine.stats import Segment\nsegment = Segment.open(int(sys.argv[1]))\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + script, str(segment.fd), *map(str, arguments)],
        pass_fds=[segment.fd],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # The same engine, also when that is the one with the sanitizers.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def stream(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def memory(segment: Segment) -> int:
    return os.fstat(segment.fd).st_blocks * 512


# ---- making and opening


def test_a_new_segment_is_empty_and_costs_next_to_nothing() -> None:
    with Segment.create(8) as segment:
        assert (segment.workers, segment.backend_capacity, segment.pool_capacity) == (8, 8192, 1024)
        assert segment.generation == 0
        assert os.fstat(segment.fd).st_size > 50 * 2**20
        assert memory(segment) <= 8192


@pytest.mark.parametrize(("workers", "backends", "pools"), [(0, 1, 1), (1025, 1, 1), (1, 0, 1), (1, 1, 0), (-1, 1, 1)])
def test_sizes_out_of_range_are_refused(workers: int, backends: int, pools: int) -> None:
    with pytest.raises(ValueError, match="must be 1 to"):
        Segment.create(workers, backends, pools)


def test_it_is_made_by_create_and_open_only() -> None:
    with pytest.raises(TypeError, match="create"):
        Segment()


def test_nobody_can_shrink_or_grow_it(segment: Segment) -> None:
    size = os.fstat(segment.fd).st_size
    for other in (0, size - 4096, size + 4096):
        with pytest.raises(PermissionError):
            os.ftruncate(segment.fd, other)


def test_the_descriptor_is_not_inherited_by_accident(segment: Segment) -> None:
    assert fcntl.fcntl(segment.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_both_sides_see_the_same_words(segment: Segment) -> None:
    with Segment.open(os.dup(segment.fd)) as other:
        assert (other.workers, other.backend_capacity, other.pool_capacity) == (3, 200, 4)
        segment.set_backend(7, flags=stats.PRESENT | stats.UP, weight=12, reason="first check passed", since_ms=99)
        other.add_backend(2, 7, "attempts", 3)
        assert other.backend_state(7) == (stats.PRESENT | stats.UP, 12, "first check passed", 99)
        assert segment.backend_totals(7).attempts == 3


def copy_with(segment: Segment, change: Callable[[bytearray], object], size: int | None = None) -> int:
    """A memfd like the segment's, its header changed."""
    header = bytearray(os.pread(segment.fd, 4096, 0))
    change(header)
    fd = os.memfd_create("copy")
    os.pwrite(fd, header, 0)
    os.ftruncate(fd, os.fstat(segment.fd).st_size if size is None else size)
    return fd


@pytest.mark.parametrize(
    ("change", "size", "message"),
    [
        (lambda header: None, 0, "only 0 bytes"),
        (lambda header: header.__setitem__(slice(0, 8), b"nonsense"), None, "its magic is b'nonsense'"),
        (lambda header: header.__setitem__(8, 77), None, "layout 77"),
        (lambda header: header.__setitem__(slice(12, 16), bytes(4)), None, "damaged: 0 workers"),
        (lambda header: header.__setitem__(slice(12, 16), b"\xff" * 4), None, "damaged: 4294967295 workers"),
        (lambda header: header.__setitem__(12, 2), None, "another build"),
        (lambda header: header.__setitem__(24, 1), None, "another build"),
        (lambda header: None, 8192, "8192 bytes long, its header says"),
    ],
)
def test_what_is_no_segment_is_refused(
    segment: Segment, change: Callable[[bytearray], object], size: int | None, message: str
) -> None:
    fd = copy_with(segment, change, size)
    with pytest.raises(ValueError, match=message):
        Segment.open(fd)
    os.close(fd)  # still the caller's


def test_a_closed_segment_says_so(segment: Segment) -> None:
    fd = segment.fd
    segment.close()
    segment.close()
    assert segment.fd == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    calls: list[Callable[[], object]] = [
        lambda: segment.generation,
        lambda: segment.backend_flags(0),
        lambda: segment.totals(),
        lambda: segment.latency(0),
        lambda: segment.set_backend(0, weight=1),
        lambda: segment.bump_generation(),
        lambda: segment.zero_worker_gauges(0),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="closed"):
            call()


def test_no_index_reaches_beyond_its_array(segment: Segment) -> None:
    for slot in (-1, 200):
        for call in (
            segment.backend_flags,
            segment.backend_state,
            segment.backend_totals,
            segment.set_backend,
            segment.clear_backend,
            segment.release_probe,
            lambda slot: segment.claim_probe(slot, 0),
            lambda slot: segment.add_backend(0, slot, "attempts"),
        ):
            with pytest.raises(IndexError, match=f"backend slot {slot}: the segment has 200"):
                call(slot)
    for worker in (-1, 3):
        for on_worker in (
            segment.worker_totals,
            segment.zero_worker_gauges,
            lambda worker: segment.claim_probe(0, worker),
            lambda worker: segment.add_worker(worker, "requests"),
            lambda worker: segment.add_latency(worker, 0, 1),
        ):
            with pytest.raises(IndexError, match=f"worker {worker}: the segment has 3"):
                on_worker(worker)
    for pool in (-1, 4):
        for on_pool in (segment.latency, segment.clear_pool):
            with pytest.raises(IndexError, match=f"pool slot {pool}: the segment has 4"):
                on_pool(pool)


def test_neighbours_do_not_overlap() -> None:
    """The last word of every record is another one than the first of the next."""
    with Segment.create(2, backends=3, pools=2) as segment:
        for slot in range(3):
            segment.set_backend(slot, flags=1 << slot, weight=slot, reason=f"{slot}" * 215, since_ms=slot)
        for worker in range(2):
            segment.add_worker(worker, "kind", 100 + worker, index=47)
            segment.add_worker(worker, "refused_connections", 200 + worker)
            for slot in range(3):
                segment.add_backend(worker, slot, "active", 10 * worker + slot)
                segment.add_backend(worker, slot, "status", 10 * worker + slot, index=5)
            for pool in range(2):
                for first_byte in (False, True):
                    segment.add_latency(worker, pool, 2**63 + pool, first_byte=first_byte)
        for slot in range(3):
            assert segment.backend_state(slot) == (1 << slot, slot, f"{slot}" * 215, slot)
            assert segment.backend_totals(slot).status == (0, 0, 0, 0, 0, 10 + 2 * slot)
            assert segment.backend_active(slot) == 10 + 2 * slot
        for worker in range(2):
            assert segment.worker_totals(worker)["kind"][47] == 100 + worker
            assert segment.worker_totals(worker)["refused_connections"] == 200 + worker
            assert segment.worker_totals(worker)["accepted"] == 0
        for pool in range(2):
            for first_byte in (False, True):
                assert segment.latency(pool, first_byte=first_byte).buckets == [(1000 << 32, 2)]


# ---- states


def test_what_is_not_given_stays(segment: Segment) -> None:
    segment.set_backend(1, flags=stats.PRESENT, weight=5, reason="new", since_ms=1_000)
    segment.set_backend(1, weight=0)
    segment.set_backend(1, since_ms=2_000)
    segment.set_backend(1, flags=stats.PRESENT | stats.DRAINING)
    assert segment.backend_flags(1) == stats.PRESENT | stats.DRAINING
    assert (segment.backend_weight(1), segment.backend_reason(1), segment.backend_since_ms(1)) == (0, "new", 2_000)
    segment.set_backend(1, reason="")
    assert segment.backend_reason(1) == ""


@pytest.mark.parametrize("weight", [-1, 257])
def test_a_weight_out_of_range_changes_nothing(segment: Segment, weight: int) -> None:
    segment.set_backend(1, weight=256, reason="before")
    with pytest.raises(ValueError, match="0 to 256"):
        segment.set_backend(1, weight=weight, reason="after")
    assert segment.backend_state(1)[1:3] == (256, "before")


@settings(deadline=None)  # each example maps a segment
@given(st.text(max_size=300))
def test_any_reason_comes_back_as_far_as_it_fits(reason: str) -> None:
    with Segment.create(1, backends=1, pools=1) as segment:
        segment.set_backend(0, reason=reason)
        back = segment.backend_reason(0)
    expected = reason.encode("utf-8", "replace").decode().replace("\0", " ")
    assert expected.startswith(back)
    if back != expected:  # cut as late as a character boundary allows
        assert 212 <= len(back.encode()) <= 215


def test_generations_count_up(segment: Segment) -> None:
    assert [segment.bump_generation() for _ in range(3)] == [1, 2, 3]
    assert segment.generation == 3


def test_a_slot_is_cleared_for_its_next_backend_but_gauges_belong_to_their_worker(segment: Segment) -> None:
    segment.set_backend(9, flags=15, weight=2, reason="x", since_ms=5)
    segment.claim_probe(9, 1)
    for worker in range(3):
        for name in ("attempts", "succeeded", "failed", "bytes_received", "bytes_sent", "connects", "reused"):
            segment.add_backend(worker, 9, name, 4)
        segment.add_backend(worker, 9, "retried", 4)
        segment.add_backend(worker, 9, "status", 4, index=2)
        segment.add_backend(worker, 9, "active", 2)
        segment.add_backend(worker, 9, "idle", 1)
        segment.add_backend(worker, 8, "attempts", 1)
    segment.clear_backend(9)
    assert segment.backend_state(9) == (0, 0, "", 0)
    assert segment.probe_holder(9) is None
    left = segment.backend_totals(9).as_dict()
    assert (left.pop("active"), left.pop("idle"), left.pop("status")) == (6, 3, [0] * 6)
    assert set(left.values()) == {0}
    assert segment.backend_totals(8).attempts == 3
    for worker in range(3):
        segment.add_backend(worker, 9, "active", -2)
    assert segment.backend_active(9) == 0


def test_a_pools_slot_is_cleared(segment: Segment) -> None:
    for pool in (1, 2):
        segment.add_latency(0, pool, 10_000)
        segment.add_latency(2, pool, 10_000, first_byte=True)
    segment.clear_pool(1)
    assert [segment.latency(pool).count for pool in (1, 2)] == [0, 1]
    assert [segment.latency(pool, first_byte=True).count for pool in (1, 2)] == [0, 1]


# ---- counters


def test_counters_are_summed_over_workers(segment: Segment) -> None:
    for worker, amount in enumerate((1, 10, 100)):
        segment.add_worker(worker, "requests", amount)
        segment.add_worker(worker, "kind", amount, index=Kind.RESET)
        segment.add_worker(worker, "status", 2 * amount, index=5)
        segment.set_worker(worker, "generation", 40 + worker)
    totals = segment.totals()
    assert totals["requests"] == 111
    assert totals["status"] == [0, 0, 0, 0, 0, 222]
    assert segment.kind_counts()[Kind.RESET] == sum(segment.kind_counts()) == 111
    assert not {"generation", "heartbeat_ms", "started_ms"} & totals.keys()
    assert [segment.worker_totals(worker)["generation"] for worker in range(3)] == [40, 41, 42]


def test_every_word_of_a_worker_can_be_counted_and_is_its_own(segment: Segment) -> None:
    names = [name for name in segment.worker_totals(0) if name not in ("status", "kind")]
    for number, name in enumerate(names):
        segment.add_worker(1, name, number + 1)
    counted = dict(segment.worker_totals(1))
    assert [counted[name] for name in names] == list(range(1, len(names) + 1))


def test_every_word_of_a_backend_can_be_counted_and_is_its_own(segment: Segment) -> None:
    names = [name for name in segment.backend_totals(0).as_dict() if name != "status"]
    for number, name in enumerate(names):
        segment.add_backend(1, 5, name, number + 1)
    totals = segment.backend_totals(5)
    assert isinstance(totals, BackendTotals)
    assert [totals.as_dict()[name] for name in names] == list(range(1, len(names) + 1))


def test_unknown_counters_are_refused(segment: Segment) -> None:
    for name, index in (("nonsense", 0), ("kind", 48), ("kind", -1), ("status", 6)):
        with pytest.raises(KeyError):
            segment.add_worker(0, name, index=index)
    for name, index in (("requests", 0), ("status", 6), ("status", -1)):
        with pytest.raises(KeyError):
            segment.add_backend(0, 0, name, index=index)


def test_every_kind_of_failure_has_a_counter() -> None:
    with Segment.create(1, backends=1, pools=1) as segment:
        assert max(Kind) < len(segment.kind_counts())


# ---- a worker's death


def test_a_dead_workers_gauges_and_probes_go_and_nothing_else(segment: Segment) -> None:
    for worker in (0, 1):
        for name in ("connections", "in_flight", "tunnels", "requests"):
            segment.add_worker(worker, name, 5)
        for slot in (0, 63, 199):
            for name in ("active", "idle", "attempts"):
                segment.add_backend(worker, slot, name, 5)
    segment.claim_probe(3, 0)
    segment.claim_probe(4, 1)
    segment.zero_worker_gauges(1)
    dead, alive = segment.worker_totals(1), segment.worker_totals(0)
    assert (dead["connections"], dead["in_flight"], dead["tunnels"], dead["requests"]) == (0, 0, 0, 5)
    assert (alive["connections"], alive["in_flight"], alive["tunnels"], alive["requests"]) == (5, 5, 5, 5)
    for slot in (0, 63, 199):
        totals = segment.backend_totals(slot)
        assert (totals.active, totals.idle, totals.attempts) == (5, 5, 10)
    assert (segment.probe_holder(3), segment.probe_holder(4)) == (0, None)


def test_zeroing_gauges_does_not_allocate_what_was_never_used() -> None:
    with Segment.create(2) as segment:
        segment.add_backend(1, 8191, "active", 1)
        before = memory(segment)
        segment.zero_worker_gauges(1)
        assert segment.backend_active(8191) == 0
        # The worker's own page, and the other worker's part of that slot, which backend_active() looked at.
        assert memory(segment) <= before + 2 * 4096


# ---- places under a limit


def test_places_are_counted_over_workers_and_never_exceed_the_limit(segment: Segment) -> None:
    assert [segment.take_place(worker, 7, 2) for worker in (0, 1, 2)] == [True, True, False]
    assert segment.places(7) == (2, 0)
    segment.give_place(2, 7)  # holds none
    assert segment.places(7) == (2, 0)
    segment.give_place(0, 7)
    assert segment.take_place(2, 7, 2)
    # A limit that was lowered: nothing is taken until there are fewer.
    assert not segment.take_place(0, 7, 1)
    segment.give_place(1, 7)
    assert not segment.take_place(0, 7, 1)
    segment.give_place(2, 7)
    assert segment.take_place(0, 7, 1)


def test_a_dead_workers_places_are_given_back(segment: Segment) -> None:
    for worker in (0, 1, 1):
        assert segment.take_place(worker, 7, 5)
    segment.zero_worker_gauges(1)
    assert segment.places(7) == (1, 0)
    segment.zero_worker_gauges(1)
    assert segment.places(7) == (1, 0)
    segment.zero_worker_gauges(0)
    assert segment.places(7) == (0, 0)


@pytest.mark.parametrize("held", [-1, 1])
def test_a_worker_killed_between_two_words(segment: Segment, held: int) -> None:
    """The shared word has the change and its own share has not: whichever way, the sum of the living is what counts."""
    for worker in (0, 1, 1):
        assert segment.take_place(worker, 7, 5)
    segment.add_backend(1, 7, "requests_held", held)
    segment.add_backend(1, 7, "requests_pending", 1)
    segment.zero_worker_gauges(1)
    assert segment.places(7) == (1, 0)
    segment.give_place(0, 7)
    assert segment.places(7) == (0, 0)


def test_workers_killed_while_they_take_and_give(segment: Segment) -> None:
    script = """
worker = int(sys.argv[2])
print("ready", flush=True)
while True:
    if segment.take_place(worker, 7, 3):
        assert 1 <= segment.places(7)[0] <= 3
        segment.give_place(worker, 7)
"""
    processes = [spawn(segment, script, worker) for worker in range(3)]
    try:
        for process in processes:
            assert stream(process.stdout).readline() == "ready\n"
        for round in range(6):
            # Any moment will do: only the kernel knows between which instructions.
            worker = round % 3
            time.sleep(0.01)
            processes[worker].kill()
            processes[worker].wait()
            stream(processes[worker].stdout).close()
            stream(processes[worker].stdin).close()
            segment.zero_worker_gauges(worker)
            assert segment.places(7)[0] <= 2
            processes[worker] = spawn(segment, script, worker)
            assert stream(processes[worker].stdout).readline() == "ready\n"
    finally:
        for process in processes:
            process.kill()
            process.wait()
            stream(process.stdout).close()
            stream(process.stdin).close()
    for worker in range(3):
        segment.zero_worker_gauges(worker)
    assert segment.places(7) == (0, 0)


# ---- several processes


def test_a_workers_counts_survive_it_and_are_seen_by_others(segment: Segment) -> None:
    script = """
worker = int(sys.argv[2])
for _ in range(1000):
    segment.add_worker(worker, "requests")
    segment.add_backend(worker, 11, "attempts")
    segment.add_latency(worker, 1, 1_000_000)
"""
    workers = [spawn(segment, script, worker) for worker in range(3)]
    for process in workers:
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert segment.totals()["requests"] == 3000
    assert segment.backend_totals(11).attempts == 3000
    assert segment.latency(1).count == 3000


def test_of_many_processes_exactly_one_gets_each_probe() -> None:
    script = """
print("ready", flush=True)
sys.stdin.readline()
worker = int(sys.argv[2])
print(*[slot for slot in range(2000) if segment.claim_probe(slot, worker)])
"""
    with Segment.create(4, backends=2000, pools=1) as segment:
        workers = [spawn(segment, script, worker) for worker in range(4)]
        for process in workers:
            assert stream(process.stdout).readline() == "ready\n"
        for process in workers:
            stream(process.stdin).write("go\n")
            stream(process.stdin).flush()
        claimed: list[int] = []
        for worker, process in enumerate(workers):
            output, _ = process.communicate(timeout=30)
            mine = [int(word) for word in output.split()]
            assert all(segment.probe_holder(slot) == worker for slot in mine)
            claimed += mine
        assert sorted(claimed) == list(range(2000))
        assert not segment.claim_probe(5, 0)
        segment.release_probe(5)
        assert segment.claim_probe(5, 0)


def test_only_one_process_at_a_time_holds_a_probe(segment: Segment) -> None:
    """Adding is a read and a write; were two processes ever between them at once, counts would be lost."""
    script = """
print("ready", flush=True)
sys.stdin.readline()
worker, turns = int(sys.argv[2]), 0
while turns < 20_000:
    if segment.claim_probe(6, worker):
        segment.add_backend(0, 6, "attempts")
        segment.release_probe(6)
        turns += 1
"""
    workers = [spawn(segment, script, worker) for worker in range(3)]
    for process in workers:
        assert stream(process.stdout).readline() == "ready\n"
    for process in workers:
        stream(process.stdin).write("go\n")
        stream(process.stdin).flush()
    for process in workers:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert segment.backend_totals(6).attempts == 60_000


def test_a_state_is_never_read_half_written(segment: Segment) -> None:
    script = """
print("ready", flush=True)
import select
number = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(200):
        number += 1
        segment.set_backend(2, flags=number, weight=number % 257, reason=str(number % 10) * 215, since_ms=number)
"""
    writer = spawn(segment, script)
    try:
        assert stream(writer.stdout).readline() == "ready\n"
        seen: set[int] = set()
        deadline = time.monotonic() + 30
        reads = 0
        while (reads < 30_000 or len(seen) < 500) and time.monotonic() < deadline:
            reads += 1
            flags, weight, reason, since_ms = segment.backend_state(2)
            if since_ms:
                assert (flags, weight, reason) == (since_ms, since_ms % 257, str(since_ms % 10) * 215)
                seen.add(since_ms)
    finally:
        writer.communicate("stop\n", timeout=30)
    assert len(seen) >= 500  # else the writer was not at work


def test_a_supervisor_killed_in_mid_write_stops_nobody(segment: Segment) -> None:
    segment.set_backend(0, flags=3, reason="before")
    os.pwrite(segment.fd, b"\x01", 4096 + 20)  # the sequence word, odd for ever
    assert segment.backend_state(0)[2] == "before"
    segment.set_backend(0, reason="after")  # the next supervisor mends it
    assert segment.backend_state(0)[2] == "after"
    assert os.pread(segment.fd, 1, 4096 + 20)[0] % 2 == 0


# ---- what listeners, routes and the supervisor count


def test_routes_and_listeners_are_summed_and_cleared() -> None:
    with Segment.create(2, backends=2, pools=2, routes=3, listeners=2) as segment:
        assert (segment.route_capacity, segment.listener_capacity) == (3, 2)
        for worker in range(2):
            segment.add_route(worker, 1, 2, 5_000_000)
            segment.add_route(worker, 2, 5, 1_000)
            segment.add_listener(worker, 1, 4)
        assert segment.route_totals(1)["status"] == [0, 0, 2, 0, 0, 0]
        latency = segment.route_totals(1)["latency"]
        assert (latency.count, latency.sum_ns, latency.steps) == (2, 10_000_000, 4)
        assert segment.listener_totals(1) == {
            "accepted": 0,
            "refused": 0,
            "open": 0,
            "status": [0, 0, 0, 0, 2, 0],
        }
        segment.clear_route(1)
        segment.clear_listener(1)
        assert segment.route_totals(1)["status"] == segment.listener_totals(1)["status"] == [0] * 6
        assert segment.route_totals(1)["latency"].count == 0
        assert segment.route_totals(2)["status"] == [0, 0, 0, 0, 0, 2]
        for read in (segment.route_totals, segment.listener_totals, segment.clear_route, segment.clear_listener):
            with pytest.raises(IndexError):
                read(3)
        with pytest.raises(KeyError):
            segment.add_route(0, 1, 6, 1)
        with pytest.raises(KeyError):
            segment.add_pool(0, 0, "nonsense")


def test_a_freed_slot_forgets_all_that_was_seen_of_its_backend(segment: Segment) -> None:
    for slot in (3, 4):
        segment.add_first_byte(1, slot, 2_000_000)
        for name in ("ejections", "went_up", "went_down", "checks_passed", "checks_failed"):
            segment.add_mark(slot, name, 2)
    segment.clear_backend(3)
    assert set(segment.backend_marks(3).values()) == {0}
    assert segment.backend_first_byte_latency(3).count == 0
    assert set(segment.backend_marks(4).values()) == {2}
    assert segment.backend_first_byte_latency(4).count == 1
    with pytest.raises(KeyError):
        segment.add_mark(3, "nonsense")


def test_causes_have_their_words() -> None:
    assert tuple(Cause) == EJECTION_CAUSES


def test_a_pool_remembers_why_until_its_slot_is_freed(segment: Segment) -> None:
    for index in range(len(EJECTION_CAUSES)):
        segment.add_pool_mark(1, "ejections", index, index + 1)
    for index in range(len(PENALTY_STATUSES)):
        segment.add_pool_mark(1, "penalties", index, 7)
    for pool in (0, 2):
        segment.add_pool_mark(pool, "ejections", 0)
    assert segment.pool_mark_totals(1) == {"ejections": [1, 2, 3, 4], "penalties": [7, 7]}
    segment.clear_pool(1)
    assert segment.pool_mark_totals(1) == {"ejections": [0] * 4, "penalties": [0] * 2}
    assert segment.pool_mark_totals(2)["ejections"] == [1, 0, 0, 0]
    for name, index in (("ejections", len(EJECTION_CAUSES)), ("penalties", -1), ("nonsense", 0)):
        with pytest.raises(KeyError):
            segment.add_pool_mark(1, name, index)


def test_who_asked_for_less_is_known_to_all(segment: Segment) -> None:
    segment.set_backend(3, ramp=(5_000, 10_000), penalty=503)
    segment.set_backend(3, weight=7)
    assert (segment.backend_ramp(3), segment.backend_penalty(3)) == ((5_000, 10_000), 503)
    segment.clear_backend(3)
    assert (segment.backend_ramp(3), segment.backend_penalty(3)) == ((0, 0), 0)


def test_a_freed_pool_keeps_nothing_but_its_gauges(segment: Segment) -> None:
    segment.add_pool(0, 1, "status", 3, index=2)
    segment.add_pool(1, 1, "retried", 2, index=Kind.RESET)
    segment.add_pool(1, 1, "not_retried", 1, index=0)
    assert segment.pool_totals(1)["retried"][Kind.RESET] == 2
    segment.clear_pool(1)
    totals = segment.pool_totals(1)
    assert not any(totals["status"])
    assert not any(totals["retried"])
    assert not any(totals["not_retried"])


def test_the_supervisor_counts_over_an_upgrade(segment: Segment) -> None:
    segment.add_supervisor("reloads", 3)
    segment.set_supervisor("reloaded_ms", 1234)
    with Segment.open(os.dup(segment.fd)) as after:
        assert after.supervisor_totals()["reloads"] == 3
        assert after.supervisor_totals()["reloaded_ms"] == 1234
    with pytest.raises(KeyError):
        segment.add_supervisor("nonsense")
    # Its words lie beside the generation, not on it.
    assert (segment.generation, segment.used) == (0, 3)
