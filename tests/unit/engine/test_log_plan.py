"""Chosen fields in the lines of the access log, and the formats of Apache: what is in them, and nobody breaks out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.config.log_fields import FIELDS as MEANINGS
from headgate.config.log_fields import MOST, MOST_HEADERS
from headgate.engine.accesslog import AccessLog
from headgate.engine.logline import LogFields
from headgate.engine.logplan import FIELDS, LogPlan, log_line

REQUEST: LogFields = {
    "time_ns": 1_795_222_923_456_789_000,
    "listener": b"127.0.0.1:8080",
    "client": b"192.0.2.7",
    "method": b"GET",
    "target": b"/path?x=1",
    "host": b"shop.example",
    "route": b"shop.example/path",
    "pool": b"web",
    "backend": b"http://127.0.0.1:9002",
    "request_id": b"0123456789abcdef0123456789abcdef",
    "status": 200,
    "attempts": 2,
    "bytes_sent": 1234,
    "bytes_received": 56,
    "first_byte_ns": 1_200_000,
    "total_ns": 1_500_000,
    "queued_ns": -1,
    "word": b"hedged",
    "tls": True,
    "failed": [(b"http://127.0.0.1:9001", b"connect_refused"), (b"http://127.0.0.1:9003", b"reset")],
    "headers": {b"user-agent": b"curl/8", b"x-tenant": b"blue"},
}
ALL = [*sorted(FIELDS), "header:x-tenant", "header:x-none"]
SHOWN = {
    "time": "2026-11-21T01:02:03.456Z",
    "listener": "127.0.0.1:8080",
    "client": "192.0.2.7",
    "method": "GET",
    "path": "/path?x=1",
    "host": "shop.example",
    "protocol": "HTTP/1.1",
    "scheme": "https",
    "status": 200,
    "bytes": 1234,
    "bytes_received": 56,
    "route": "shop.example/path",
    "pool": "web",
    "backend": "http://127.0.0.1:9002",
    "attempts": 2,
    "failed_attempts": [
        {"backend": "http://127.0.0.1:9001", "error": "connect_refused"},
        {"backend": "http://127.0.0.1:9003", "error": "reset"},
    ],
    "first_byte_s": 0.0012,
    "total_s": 0.0015,
    "queued_s": None,
    "request_id": "0123456789abcdef0123456789abcdef",
    "trace_id": None,
    "error": "hedged",
    "user_agent": "curl/8",
    "referer": None,
    "header:x-tenant": "blue",
    "header:x-none": None,
}


def test_every_field_has_its_meaning() -> None:
    assert set(MEANINGS) == FIELDS
    assert all(text.endswith(".") for text in MEANINGS.values())


def test_json_has_the_chosen_fields_in_their_order() -> None:
    assert json.loads(log_line("json", ALL, **REQUEST)) == SHOWN
    line = log_line("json", ["status", "time", "header:x-tenant"], **REQUEST)
    assert line == b'{"status":200,"time":"2026-11-21T01:02:03.456Z","header:x-tenant":"blue"}\n'


def test_text_has_them_by_name() -> None:
    line = log_line("text", ALL, **REQUEST).decode()
    assert line.endswith("\n")
    parts = dict(part.split("=", 1) for part in line.rstrip("\n").split(" "))
    assert list(parts) == ALL
    assert parts.pop("failed_attempts") == "http://127.0.0.1:9001:connect_refused,http://127.0.0.1:9003:reset"
    for name, shown in parts.items():
        assert shown == ("-" if SHOWN[name] is None else str(SHOWN[name])), name


def test_what_is_not_known() -> None:
    nothing = json.loads(log_line("json", ALL, time_ns=0))
    counts = {"bytes", "bytes_received", "attempts"}
    assert {name for name, value in nothing.items() if value is None} == set(ALL) - counts - {
        "time",
        "scheme",
        "failed_attempts",
    }
    assert nothing["scheme"] == "http"
    assert nothing["failed_attempts"] == []
    text = log_line("text", ["client", "status", "failed_attempts", "protocol"], time_ns=0)
    assert text == b"client=- status=- failed_attempts=- protocol=-\n"


def test_common_and_combined() -> None:
    common = b'192.0.2.7 - - [21/Nov/2026:01:02:03 +0000] "GET /path?x=1 HTTP/1.1" 200 1234'
    assert log_line("common", **REQUEST) == common + b"\n"
    assert log_line("combined", **REQUEST) == common + b' "-" "curl/8"\n'
    hostile = LogFields({**REQUEST, "headers": {b"referer": b'http://a/"\x00', b"user-agent": b"\xff\n"}})
    assert log_line("combined", **hostile).endswith(b' "http://a/\\"\\x00" "\\xFF\\x0A"\n')
    assert log_line("common", client=b"::1", minor_version=0) == b'::1 - - [01/Jan/1970:00:00:00 +0000] "-" - -\n'
    assert b'"GET - HTTP/1.0"' in log_line("common", method=b"GET", minor_version=0)


@pytest.mark.parametrize(
    ("format", "names", "message"),
    [
        ("xml", [], "common or combined, not 'xml'"),
        ("text", [], "1 to 40 fields, not 0"),
        ("json", ["status", "stauts"], "no field 'stauts'"),
        ("json", ["header:"], "a header needs a name"),
        ("combined", ["status"], "fixed"),
        ("json", [f"header:x-{n}" for n in range(MOST_HEADERS + 1)], "no more than 16 headers"),
        ("json", ["status"] * (MOST + 1), "1 to 40 fields, not 41"),
    ],
)
def test_plans_that_are_none(format: str, names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogPlan(format, names)


ANYTHING = st.binary(max_size=60) | st.sampled_from(
    [b'"', b"\\", b"\n", b"\r\n", b"\x00", b"\xc3\x28", b'","a":"b', b" x=y"]
)


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries(dict.fromkeys(("client", "method", "target", "host", "route", "request_id"), ANYTHING)),
    st.dictionaries(st.sampled_from([b"user-agent", b"referer", b"x-tenant"]), ANYTHING),
    st.lists(ANYTHING, max_size=6),
    st.permutations(ALL),
)
def test_a_request_is_one_line_whatever_its_bytes(
    texts: dict[str, bytes], headers: dict[bytes, bytes], urls: list[bytes], names: list[str]
) -> None:
    request: LogFields = {**REQUEST, **texts, "headers": headers, "failed": [(url, b"reset") for url in urls]}  # type: ignore[typeddict-item]
    for format in ("json", "text", "common", "combined"):
        line = log_line(format, names if format in ("json", "text") else (), **request)
        assert line.endswith(b"\n")
        assert re.fullmatch(rb"[\x20-\x7e]+\n", line)
        if format == "json":
            document = json.loads(line)
            assert list(document) == names
            # Bytes come back as they were: JSON holds them as Latin-1.
            assert (document["path"] or "").encode("latin-1") == texts["target"]
            assert (document["user_agent"] or "").encode("latin-1") == headers.get(b"user-agent", b"")
            assert [(one["backend"] or "").encode("latin-1") for one in document["failed_attempts"]] == urls
        elif format == "text":
            parts = line[:-1].split(b" ")
            assert [part.partition(b"=")[0].decode() for part in parts] == names
        else:
            # Quotes within are escaped, so the line has as many bare ones as the format.
            assert len(re.findall(rb'(?<!\\)(?:\\\\)*"', line)) == (2 if format == "common" else 6)


def test_a_log_with_chosen_fields(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with AccessLog("json", str(path), fields=["client", "header:x-tenant"], buffer_bytes=4096) as log:
        for number in range(300):
            log.write_fields(client=b"c%d" % number, headers={b"x-tenant": b"t" * (number % 50)})
        log.write_fields(client=b"x" * 5000)  # longer than a buffer: dropped and counted
        dropped = log.dropped
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) + dropped == 301
    assert dropped >= 1
    assert lines[0] == {"client": "c0", "header:x-tenant": None}
    assert lines[3] == {"client": "c3", "header:x-tenant": "ttt"}


def test_a_sample_is_a_share_and_all_agree_on_it() -> None:
    ids = [b"%032x" % (number * 0x9E3779B97F4A7C15) for number in range(20_000)]
    with AccessLog("json", "-", sample=0.1) as one, AccessLog("text", "-", sample=0.1) as other:
        kept = [request for request in ids if one.keeps(request)]
        assert kept == [request for request in ids if other.keeps(request)]
        assert 1800 < len(kept) < 2200
    with AccessLog("json", "-", sample=0.5) as more, AccessLog("json", "-") as every:
        # Who keeps more keeps these as well.
        assert all(more.keeps(request) for request in kept)
        assert all(every.keeps(request) for request in ids)
    for share in (0.0, -1.0, 1.5):
        with pytest.raises(ValueError, match="a sample is a share"):
            AccessLog("json", "-", sample=share)
