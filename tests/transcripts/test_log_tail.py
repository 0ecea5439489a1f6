"""The last lines of the access log come out by themselves, also when its reader was busy as they were written."""

from __future__ import annotations

import fcntl
import os
import select

from headgate.engine import AccessLog

from .conftest import Converse
from .conversation import get, ok

PAGE = 4096


def test_lines_that_were_held_up_need_no_further_request(conversation: Converse) -> None:
    talk = conversation("a")
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PAGE)
    os.write(write, b"x" * PAGE)
    kept, talk.stage.engine.access_log = talk.stage.engine.access_log, AccessLog("text", "-", fd=write)
    client = talk.client()
    client >> get("/first")
    up = talk["a"].accepts()
    for target in ("/first", "/second"):
        if target == "/second":
            client >> get(target)
        up << f"GET {target} HTTP/1.1"
        up >> ok()
        client << "HTTP/1.1 200 OK"
        talk.stage.passes(0.2)  # the log's thread has the first line, and cannot write it
    got = b""
    for _ in range(100):
        while select.select([read], [], [], 0)[0]:
            got += os.read(read, 65536)
        if b"/second" in got:
            break
        talk.stage.passes(0.05)
    assert b"/second" in got, got[PAGE:]
    log = talk.stage.engine.access_log
    talk.stage.engine.access_log = kept
    assert log is not None
    log.close()
    os.close(read)
    os.close(write)
