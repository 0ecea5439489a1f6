"""The access log: what a line looks like, and that neither a disk nor a reader can hold up who writes to it."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.engine.accesslog import AccessLog
from headgate.engine.logline import LogFields
from headgate.engine.logplan import log_line

# For processes of a test's own: the same engine, also when that is the one with the sanitizers.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

FIELDS: LogFields = {
    "time_ns": 1_795_222_923_456_789_000,
    "client": b"127.0.0.1",
    "method": b"GET",
    "target": b"/path?x=1",
    "host": b"shop.example",
    "pool": b"web",
    "backend": b"http://127.0.0.1:9001",
    "request_id": b"0123456789abcdef0123456789abcdef",
    "status": 200,
    "attempts": 1,
    "bytes_sent": 1234,
    "bytes_received": 56,
    "first_byte_ns": 1_200_000,
    "total_ns": 1_500_000,
    "word": b"ok",
}
TEXT = (
    b'2026-11-21T01:02:03.456Z 127.0.0.1 "GET /path?x=1 HTTP/1.1" 200 1234 pool=web backend=http://127.0.0.1:9001'
    b" attempts=1 ttfb=0.0012 total=0.0015 id=0123456789abcdef0123456789abcdef\n"
)


def eventually(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Waits for what another thread brings about."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        Event().wait(0.002)


# ---- lines


def test_a_text_line() -> None:
    assert log_line("text", **FIELDS) == TEXT


def test_an_error_is_named_at_the_end() -> None:
    failed: LogFields = {**FIELDS, "word": b"connect_refused"}
    assert log_line("text", **failed) == TEXT[:-1] + b" error=connect_refused\n"


def test_what_is_unknown_is_a_dash() -> None:
    assert log_line("text") == b'1970-01-01T00:00:00.000Z - "-" - 0 pool=- backend=- attempts=0 ttfb=- total=- id=-\n'
    assert b'"- /x HTTP/1.0"' in log_line("text", target=b"/x", minor_version=0)
    assert b'"GET - HTTP/1.1"' in log_line("text", method=b"GET", target=None)


def test_a_json_line_has_all_keys_in_one_order() -> None:
    line = log_line("json", **FIELDS)
    assert line.endswith(b"}\n")
    assert list(msgspec.json.decode(line).items()) == [
        ("time", "2026-11-21T01:02:03.456Z"),
        ("client", "127.0.0.1"),
        ("method", "GET"),
        ("path", "/path?x=1"),
        ("host", "shop.example"),
        ("status", 200),
        ("bytes", 1234),
        ("bytes_received", 56),
        ("pool", "web"),
        ("backend", "http://127.0.0.1:9001"),
        ("attempts", 1),
        ("first_byte_s", 0.0012),
        ("total_s", 0.0015),
        ("request_id", "0123456789abcdef0123456789abcdef"),
        ("error", None),
    ]
    empty = msgspec.json.decode(log_line("json", word=b"reset"))
    assert empty.keys() == msgspec.json.decode(line).keys()
    assert {key for key, value in empty.items() if value is not None} == {
        "time",
        "bytes",
        "bytes_received",
        "attempts",
        "error",
    }


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0.0"),
        (499, "0.0"),
        (500, "0.000001"),
        (1_000, "0.000001"),
        (100_000_000, "0.1"),
        (999_999_499, "0.999999"),
        (999_999_500, "1.0"),
        (2_000_000_000, "2.0"),
        (3_723_004_560_000, "3723.00456"),
        (2**63 - 1, "9223372036.854776"),
        (-1, "-"),
    ],
)
def test_durations_are_seconds_with_up_to_six_decimals(ns: int, text: str) -> None:
    line = log_line("text", first_byte_ns=ns, total_ns=ns).decode()
    assert f" ttfb={text} total={text} " in line
    if ns >= 0:
        assert msgspec.json.decode(log_line("json", total_ns=ns))["total_s"] == float(text)


@settings(deadline=None)  # each example starts a thread
@given(st.lists(st.integers(0, 4_102_444_800 * 10**9), min_size=1))
def test_times_are_utc_to_the_millisecond(times_ns: list[int]) -> None:
    def expected(ns: int) -> str:
        moment = datetime.fromtimestamp(ns // 10**9, UTC).replace(microsecond=ns // 1000 % 10**6)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    read, write = os.pipe()
    try:
        with AccessLog("text", "-", fd=write) as log:  # one log: the text of a second is kept for the next line
            for ns in times_ns[:50]:
                log.write_fields(time_ns=ns)
        lines = os.read(read, 2**16).decode().splitlines()
    finally:
        os.close(read)
        os.close(write)
    assert [line.split()[0] for line in lines] == [expected(ns) for ns in times_ns[:50]]


texts = st.one_of(
    st.binary(max_size=60),
    st.text(st.characters(max_codepoint=127), max_size=60).map(str.encode),
    st.lists(st.sampled_from([b'"', b"\\", b" ", b"\n", b"\r", b"\x00", b"\x7f", b"\xff", b"12345678"])).map(b"".join),
)
all_fields = st.fixed_dictionaries(
    {
        "client": texts,
        "method": texts,
        "target": texts,
        "host": texts,
        "pool": texts,
        "backend": texts,
        "request_id": texts,
        "word": texts.filter(lambda word: word != b"ok"),
        "status": st.integers(0, 999),
        "attempts": st.integers(0, 65535),
        "bytes_sent": st.integers(0, 2**64 - 1),
        "bytes_received": st.integers(0, 2**64 - 1),
        "first_byte_ns": st.integers(-1, 2**63 - 1),
        "total_ns": st.integers(-1, 2**63 - 1),
        "time_ns": st.integers(0, 2**63 - 1),
    }
)


def unescaped(text: bytes) -> bytes:
    def one(match: re.Match[bytes]) -> bytes:
        return bytes([int(match[1], 16)]) if match[1] else match[0][1:]

    return re.sub(rb'\\(?:x([0-9A-F]{2})|["\\])', one, text)


LINE = re.compile(
    rb'(?P<time>\S+) (?P<client>\S+) "(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\S+) (?P<bytes>\d+) pool=(?P<pool>\S+)'
    rb" backend=(?P<backend>\S+) attempts=(?P<attempts>\d+) ttfb=(?P<ttfb>\S+) total=(?P<total>\S+)"
    rb" id=(?P<request_id>\S+)(?: error=(?P<word>\S+))?\n"
)


@given(all_fields)
def test_any_bytes_make_one_text_line_that_can_be_taken_apart(fields: LogFields) -> None:
    line = log_line("text", **fields)
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])
    parts = LINE.fullmatch(line)
    assert parts is not None
    for name in ("client", "pool", "backend", "request_id"):
        given_text = fields[name]
        assert unescaped(parts[name]) == (given_text or b"-")
    assert unescaped(parts["word"] or b"") == fields["word"]
    if fields["method"] or fields["target"]:
        request = (fields["method"] or b"-") + b" " + (fields["target"] or b"-") + b" HTTP/1.1"
    else:
        request = b"-"
    assert unescaped(parts["request"]) == request
    assert int(parts["bytes"]) == fields["bytes_sent"]


@given(all_fields)
def test_any_bytes_make_one_json_line_that_loses_nothing(fields: LogFields) -> None:
    line = log_line("json", **fields)
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])
    assert line.endswith(b"}\n")
    parsed = msgspec.json.decode(line)
    for key, name in {
        "client": "client",
        "method": "method",
        "path": "target",
        "host": "host",
        "pool": "pool",
        "backend": "backend",
        "request_id": "request_id",
        "error": "word",
    }.items():
        given_text = fields[name]  # type: ignore[literal-required]
        assert (parsed[key] or "").encode("latin-1") == given_text
    assert parsed["bytes"] == fields["bytes_sent"]
    assert parsed["bytes_received"] == fields["bytes_received"]


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_at_every_place_of_a_word(byte: int) -> None:
    """Eight bytes are copied at a time: what needs escaping must be found wherever it stands among them."""
    for place in range(17):
        target = bytearray(b"abcdefghijklmnopq")
        target[place] = byte
        assert msgspec.json.decode(log_line("json", target=bytes(target)))["path"] == target.decode("latin-1")
        pool = re.search(rb" pool=(\S+) ", log_line("text", pool=bytes(target)))
        assert pool is not None
        assert unescaped(pool[1]) == target


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="common or combined, not 'xml'"):
        log_line("xml")
    with pytest.raises(TypeError, match="no field 'nonsense'"):
        log_line("text", nonsense=b"x")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="common or combined"):
        AccessLog("xml", str(tmp_path / "log"))
    with pytest.raises(ValueError, match="at least 4096"):
        AccessLog("text", str(tmp_path / "log"), buffer_bytes=4095)
    with pytest.raises(FileNotFoundError):
        AccessLog("text", str(tmp_path / "none" / "log"))
    with pytest.raises(OSError, match="Bad file descriptor"):
        AccessLog("text", "-", fd=9999)
    assert not (tmp_path / "log").exists()


# ---- writing


class Pipe:
    """A pipe that holds one page."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self._open = {self.read, self.write}
        fcntl.fcntl(self.write, fcntl.F_SETPIPE_SZ, 4096)

    def close(self, end: int) -> None:
        self._open.remove(end)
        os.close(end)

    def close_all(self) -> None:
        for end in list(self._open):
            self.close(end)

    def take(self) -> bytes:
        """What there is, at least one byte."""
        return os.read(self.read, 65536)

    def take_from(self, log: AccessLog) -> bytes:
        """What there is once the log has handed over what it has; it cannot while its thread is busy."""
        while not select.select([self.read], [], [], 0.01)[0]:
            log.hand_over()
        return self.take()

    def rest(self) -> bytes:
        """All there is, the last writer having gone."""
        self.close(self.write)
        return read_all(self.read)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close_all()


def number_of(line: bytes) -> int:
    found = re.search(rb'"GET /(\d+)x* HTTP', line)
    assert found is not None, line
    return int(found[1])


def read_all(fd: int) -> bytes:
    """Until the end of file."""
    pieces = []
    while piece := os.read(fd, 65536):
        pieces.append(piece)
    return b"".join(pieces)


def test_lines_come_out_in_order_and_whole(pipe: Pipe) -> None:
    log = AccessLog("text", "-", fd=pipe.write)
    log.write_fields(**FIELDS)
    log.hand_over()
    assert pipe.take() == TEXT
    for number in range(15):
        log.write_fields(method=b"GET", target=b"/%d" % number)
    log.close()
    assert [number_of(line) for line in pipe.rest().splitlines()] == list(range(15))
    assert log.dropped == 0


def test_a_file_gets_everything_and_is_not_for_everybody(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with AccessLog("json", str(path)) as log:
        assert (log.format, log.path) == ("json", str(path))
        for number in range(20_000):
            log.write_fields(method=b"GET", target=b"/%d" % number, status=200)
            if number % 500 == 0:
                log.hand_over()
    lines = path.read_bytes().splitlines()
    assert len(lines) + log.dropped == 20_000
    paths = [int(msgspec.json.decode(line)["path"][1:]) for line in lines]
    assert paths == sorted(set(paths))
    assert path.stat().st_mode & 0o007 == 0
    with AccessLog("json", str(path)) as log:  # appends
        log.write_fields(target=b"/again")
    assert len(path.read_bytes().splitlines()) == len(lines) + 1


def test_a_buffer_that_is_half_full_goes_out_by_itself(pipe: Pipe) -> None:
    with AccessLog("text", "-", fd=pipe.write, buffer_bytes=4096) as log:
        for number in range(30):  # 70 bytes and more each
            log.write_fields(method=b"GET", target=b"/%d" % number)
        assert number_of(pipe.take().splitlines()[0]) == 0
        assert log.dropped == 0


def test_a_line_longer_than_a_buffer_is_dropped_and_the_next_is_not(pipe: Pipe) -> None:
    with AccessLog("text", "-", fd=pipe.write, buffer_bytes=4096) as log:
        log.write_fields(method=b"GET", target=b"/1")
        log.write_fields(method=b"GET", target=b"/2" + b"x" * 4096)
        log.write_fields(method=b"GET", target=b"/3" + b"x" * 3000)  # six times that would not fit, but it does
        assert number_of(pipe.take()) == 1
        assert number_of(pipe.take_from(log)) == 3
        assert log.dropped == 1


def test_standard_output_is_the_default(tmp_path: Path) -> None:
    script = (
        "from headgate.engine.accesslog import AccessLog\n"
        "with AccessLog('text', '-') as log:\n    log.write_fields(method=b'GET', target=b'/7')\n    log.reopen()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, env=ENVIRONMENT)
    assert number_of(done.stdout) == 7


def test_several_workers_share_a_pipe_line_by_line(pipe: Pipe) -> None:
    logs = [AccessLog("text", "-", fd=pipe.write, buffer_bytes=2**20) for _ in range(3)]
    for number in range(900):
        logs[number % 3].write_fields(method=b"GET", target=b"/%d" % number + b"x" * (number % 400))
    for log in logs:
        log.hand_over()
    got = b""
    while got.count(b"\n") < 900:
        got += pipe.take()
    assert sorted(number_of(line) for line in got.splitlines()) == list(range(900))
    for log in logs:
        log.close()


def test_a_socket_is_written_without_blocking_too() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, AccessLog("text", "-", fd=ours.fileno()) as log:
        written = 0
        while not log.dropped:
            log.write_fields(method=b"GET", target=b"/%d" % written)
            written += 1
        theirs.settimeout(10)
        assert number_of(theirs.recv(4096).splitlines()[0]) == 0
        log.close(timeout_s=0.0)


# ---- nobody reads


def stall(log: AccessLog) -> int:
    """Writes until lines are dropped; returns how many were written."""
    written = 0
    while log.dropped < 1000:
        log.write_fields(method=b"GET", target=b"/%d" % written)
        written += 1
        log.hand_over()
    return written


def test_a_reader_that_stopped_holds_up_nobody(pipe: Pipe) -> None:
    log = AccessLog("text", "-", fd=pipe.write, buffer_bytes=16384)
    begun = time.perf_counter()
    written = stall(log)
    assert time.perf_counter() - begun < 5  # it is some 2,000 lines of a microsecond
    dropped = log.dropped
    got = b""
    while got.count(b"\n") + dropped < written:
        got += pipe.take_from(log)
    numbers = [number_of(line) for line in got.splitlines()]
    assert len(numbers) + dropped == written
    assert numbers == sorted(numbers)
    log.write_fields(method=b"GET", target=b"/%d" % written)  # and it goes on
    assert number_of(pipe.take_from(log)) == written
    assert log.dropped == dropped
    log.close()


@pytest.mark.parametrize("blocking", [True, False])
def test_closing_waits_no_longer_than_told_and_counts_what_is_left(pipe: Pipe, blocking: bool) -> None:
    os.set_blocking(pipe.write, blocking)
    log = AccessLog("text", "-", fd=pipe.write, buffer_bytes=16384)
    written = stall(log)
    begun = time.perf_counter()
    log.close(timeout_s=0.05)
    assert 0.04 < time.perf_counter() - begun < 1
    rest = pipe.rest()
    assert rest.endswith(b"\n")
    assert len(rest.splitlines()) + log.dropped == written
    log.close()
    log.write_fields(**FIELDS)
    log.hand_over()
    assert len(rest.splitlines()) + log.dropped == written + 1
    with pytest.raises(ValueError, match="closed"):
        log.reopen()


def test_a_forgotten_log_ends_its_thread(pipe: Pipe) -> None:
    log = AccessLog("text", "-", fd=pipe.write)
    log.write_fields(**FIELDS)
    threads = len(os.listdir("/proc/self/task"))
    del log
    eventually(lambda: len(os.listdir("/proc/self/task")) == threads - 1)  # /proc notices a little later
    assert pipe.rest() == TEXT


def test_waiting_costs_no_cpu(pipe: Pipe) -> None:
    with (
        AccessLog("text", "-", fd=pipe.write, buffer_bytes=16384) as stuck,
        AccessLog("text", "-", fd=pipe.write) as idle,
    ):
        stall(stuck)
        begun = time.process_time()
        Event().wait(0.3)
        assert time.process_time() - begun < 0.1
        assert idle.dropped == 0
        stuck.close(timeout_s=0.0)


def test_no_descriptor_and_no_thread_is_left(tmp_path: Path) -> None:
    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    before = held()
    for _ in range(5):
        with AccessLog("text", str(tmp_path / "log")) as log:
            log.write_fields(**FIELDS)
            for _ in range(3):
                log.reopen()
        with pytest.raises(IsADirectoryError):
            AccessLog("text", str(tmp_path))
    # /proc notices an ended thread a little later; what earlier tests left may go meanwhile, so fewer is fine.
    eventually(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))


# ---- the reader is gone, the disk is full


def test_a_broken_pipe_kills_nobody() -> None:
    script = """
import os, signal
from headgate.engine.accesslog import AccessLog
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
read, write = os.pipe()
os.close(read)
log = AccessLog("text", "-", fd=write)
for _ in range(3):
    log.write_fields(method=b"GET", target=b"/1")
    log.hand_over()
log.close()
print(log.dropped)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


def test_lines_are_counted_while_the_disk_is_full() -> None:
    with AccessLog("text", "/dev/full") as log:
        for count in (1, 2, 3):
            log.write_fields(**FIELDS)
            while log.dropped < count:
                log.hand_over()
            assert log.dropped == count
        assert log.last_error == errno.ENOSPC


# The limit on the size of files stands in for a full disk where no small file system can be mounted.
FILLED = """
import os, resource, sys, threading
from headgate.engine.accesslog import AccessLog
path, full, free = sys.argv[1:]
log = AccessLog("text", path)
written = 0
def write(count):
    global written
    for _ in range(count):
        log.write_fields(method=b"GET", target=b"/%d" % written)
        written += 1
    log.hand_over()
    threading.Event().wait(0.001)
exec(full)
while not log.last_error:
    write(50)
assert os.stat(path).st_size == 65536, os.stat(path)
write(50)
exec(free)
while log.last_error:
    write(1)
write(100)
log.close()
print(written, log.dropped)
"""


def check_filled(path: Path, full: str, free: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILLED, str(path), full, free],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    written, dropped = map(int, done.stdout.split())
    whole = re.compile(rb'\S+Z - "GET /\d+ HTTP/1\.1" - 0 pool=- backend=- attempts=0 ttfb=- total=- id=-')
    lines = path.read_bytes().splitlines()
    broken = [line for line in lines if not whole.fullmatch(line)]
    numbers = [number_of(line) for line in lines if whole.fullmatch(line)]
    assert numbers == sorted(set(numbers))
    assert numbers[-100:] == list(range(written - 100, written))  # all is well since there is room again
    assert len(numbers) + dropped == written
    assert dropped >= 50
    assert len(broken) <= 1  # the one that was cut off; the next one begins a line of its own


def test_writing_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, ({}, resource.RLIM_INFINITY))"
    check_filled(tmp_path / "log", limit.format("65536"), limit.format("resource.RLIM_INFINITY"))


def test_a_small_file_system_fills_up_and_is_freed(tmp_path: Path) -> None:
    room = tmp_path / "small"
    room.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(room)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        (room / "ballast").write_bytes(bytes(65536))
        check_filled(room / "log", "", f"os.unlink({str(room / 'ballast')!r})")
    finally:
        subprocess.run(["umount", str(room)], check=True)


# ---- reopening


def test_after_a_rename_reopening_starts_a_new_file(tmp_path: Path) -> None:
    path, old = tmp_path / "log", tmp_path / "log.1"
    with AccessLog("text", str(path)) as log:
        log.write_fields(method=b"GET", target=b"/1")
        log.hand_over()
        eventually(lambda: path.stat().st_size)
        path.rename(old)
        log.reopen()
        log.write_fields(method=b"GET", target=b"/2")
    assert number_of(old.read_bytes()) == 1
    assert number_of(path.read_bytes()) == 2


def test_an_idle_log_lets_go_of_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "log"

    def held() -> list[str]:
        links = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{fd}"))
            except FileNotFoundError:  # the directory itself
                continue
        return [link for link in links if link.startswith(str(path))]

    with AccessLog("text", str(path)) as log:
        path.rename(tmp_path / "log.1")
        log.reopen()
        eventually(lambda: held() == [str(path)])


def test_a_failed_reopening_keeps_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "log"
    with AccessLog("text", str(path)) as log:
        folder.rename(tmp_path / "moved")
        with pytest.raises(FileNotFoundError):
            log.reopen()
        log.write_fields(method=b"GET", target=b"/1")
    assert number_of((tmp_path / "moved" / "log").read_bytes()) == 1


def test_reopening_rescues_what_nobody_reads(tmp_path: Path) -> None:
    """The named pipe's reader stopped; a file takes its place: every line not dropped is in one of the two, whole."""
    path = tmp_path / "log"
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device or address"):  # nobody reads it: an error, not a wait
        AccessLog("text", str(path))
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    log = AccessLog("text", str(path), buffer_bytes=16384)
    written = stall(log)
    path.unlink()
    log.reopen()
    log.close(timeout_s=10)
    os.set_blocking(reader, True)
    lines = (read_all(reader) + path.read_bytes()).splitlines()
    os.close(reader)
    numbers = [number_of(line) for line in lines]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + log.dropped == written
