"""The rings of decisions as a reader finds them: whole records only, the newest first, none outside its bounds."""

from __future__ import annotations

import os
import struct

import pytest

from headgate.engine.decisions import Decisions

PAGE = 4096
RECORDS = 1024
HEAD = "<QQqqqQQQQHH12B"
"""seq, time, total, first byte, queued, trace (2), span, parent, status, attempts; kind, notes, flags, kept; lengths of
id, method, path, host, client, listener, route, pool."""
TEXTS = (128, 16, 216, 64, 48, 48, 88, 48)
ATTEMPT = "<40sIIIHBB"
FAILED, SAMPLED, TRACED = 1, 2, 8


def place(worker: int, ring: int, number: int) -> int:
    return PAGE + (worker * 2 + ring) * (PAGE + RECORDS * 1024) + PAGE + number % RECORDS * 1024


def write(
    rings: Decisions, number: int, *, ring: int = 0, worker: int = 0, seq: int | None = None, **more: int
) -> None:
    """What an engine writes, by hand."""
    texts = [b"id-%d" % number, b"GET", b"/x", b"h.example", b"192.0.2.1", b":80", b"/", b"web"]
    head = struct.pack(
        HEAD,
        2 * number + 2 if seq is None else seq,
        number * 1000,
        5_000_000,
        -1,
        -1,
        *(1, 2, 3, 0),
        *(200, 1),
        *(0, 0, more.get("flags", 0), more.get("kept", 1)),
        *(more.get("length", len(text)) for text in texts),
    )
    body = b"".join(text.ljust(room, b"\0") for text, room in zip(texts, TEXTS, strict=True))
    attempt = struct.pack(ATTEMPT, b"b%d" % (number % 3), 10, 2000, 0xFFFFFFFF, 0, 1, 2)
    os.pwrite(rings.fd, head + body + attempt, place(worker, ring, number))
    os.pwrite(rings.fd, struct.pack("<Q", number + 1), place(worker, ring, 0) - PAGE)


@pytest.fixture
def rings() -> Decisions:
    return Decisions.create(2)


def test_the_newest_first_over_all_rings(rings: Decisions) -> None:
    assert rings.latest(10) == []
    for number in range(6):
        write(rings, number, ring=number % 2, worker=number // 3)
    rows = rings.latest(4)
    assert [(row["id"], row["worker"]) for row in rows] == [("id-5", 1), ("id-4", 1), ("id-3", 1), ("id-2", 0)]
    assert rows[0]["attempts"] == [
        {"backend": "b2", "kind": 1, "status": 0, "started_ms": 0.01, "first_byte_ms": None, "ms": 2.0}
    ]
    assert rows[0]["trace_id"] == "00000000000000010000000000000002"
    assert (rows[0]["total_ms"], rows[0]["first_byte_ms"], rows[0]["parent_id"]) == (5.0, None, "")


def test_filters(rings: Decisions) -> None:
    for number in range(9):
        write(rings, number, flags=FAILED if number % 2 else SAMPLED)
    assert [row["id"] for row in rings.latest(10, failed=True)] == ["id-7", "id-5", "id-3", "id-1"]
    assert [row["id"] for row in rings.latest(10, id=b"id-4")] == ["id-4"]
    assert rings.latest(10, id=b"id-44") == []
    assert [row["id"] for row in rings.latest(10, backend=b"b1", failed=True)] == ["id-7", "id-1"]


def test_a_ring_goes_round(rings: Decisions) -> None:
    for number in range(RECORDS - 2, RECORDS + 3):
        write(rings, number)
    assert [row["id"] for row in rings.latest(5)] == [f"id-{number}" for number in range(1026, 1021, -1)]


def test_a_record_that_is_being_written_is_passed_over(rings: Decisions) -> None:
    """As is the one that a worker died in."""
    for number in range(3):
        write(rings, number, seq=2 * number + 1 if number == 1 else None)
    assert [row["id"] for row in rings.latest(5)] == ["id-2", "id-0"]


@pytest.mark.parametrize("broken", [{"length": 255}, {"kept": 200}])
def test_lengths_are_not_believed(rings: Decisions, broken: dict[str, int]) -> None:
    write(rings, 0)
    write(rings, 1, **broken)
    assert [row["id"] for row in rings.latest(5)] == ["id-0"]
    assert rings.latest(5, backend=b"nobody") == []


def test_follow(rings: Decisions) -> None:
    places: dict[tuple[int, int], int] = {}
    for number in range(3):
        write(rings, number, flags=TRACED if number != 1 else 0)
    assert [row["id"] for row in rings.follow(places)] == ["id-0", "id-2"]
    assert rings.follow(places) == []
    for number in range(3, 3 + RECORDS + 10):  # ten too many
        write(rings, number, flags=TRACED)
    assert len(rings.follow(places)) == RECORDS
    assert rings.follow(places) == []


def test_another_process_opens_them(rings: Decisions) -> None:
    write(rings, 0)
    again = Decisions.open(os.dup(rings.fd))
    assert again.workers == 2
    assert [row["id"] for row in again.latest(5)] == ["id-0"]
    again.close()
    with pytest.raises(ValueError, match="closed"):
        again.latest(1)
    other = os.memfd_create("other")
    os.ftruncate(other, 100)
    with pytest.raises(ValueError, match="no decisions"):
        Decisions.open(other)
    os.close(other)
    with pytest.raises(ValueError, match="1 to 1024"):
        Decisions.create(0)
