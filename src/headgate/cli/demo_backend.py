"""The demo's server: names itself, and has an answer that is slow and one that never ends.

    python -m headgate.cli.demo_backend --name red --port 9001

`/` names the server, `/health` is for checks, `/slow?seconds=2` takes its time, `/events` sends server-sent events.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_LONGEST_S = 60.0


class Server(ThreadingHTTPServer):
    """The server. Threads die with it."""

    daemon_threads = True
    request_queue_size = 128  # the default of 5 drops connections as soon as somebody loads the demo

    def __init__(self, name: str, port: int, event_interval_s: float = 1.0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.name = name
        self.event_interval_s = event_interval_s
        self.stopping = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"  # keep-alive, as real servers do
    server: Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/events":
            self._events()
            return
        if url.path == "/slow":
            self.server.stopping.wait(seconds_of(url.query))
        text = (
            "ok\n" if url.path == "/health" else f"Hello from {self.server.name}, process {os.getpid()}: {self.path}\n"
        )
        self._answer(text)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        body = self.rfile.read(int(length)) if length.isdecimal() else b""
        self._answer(f"{self.server.name} got {len(body)} bytes\n")

    def _answer(self, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Backend", self.server.name)
        self.end_headers()
        self.wfile.write(body)

    def _events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        number = 0
        while not self.server.stopping.is_set():
            number += 1
            data = json.dumps({"backend": self.server.name, "event": number, "time": time.time()})
            chunk = f"data: {data}\n\n".encode()
            try:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            except OSError:  # the client left
                self.close_connection = True
                return
            self.server.stopping.wait(self.server.event_interval_s)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the balancer's access log is what the demo shows."""


def seconds_of(query: str) -> float:
    """How long `/slow` takes: `seconds` of the query, 2 where that is no number, a minute at most."""
    try:
        seconds = float(parse_qs(query).get("seconds", ["2"])[0])
    except ValueError:
        return 2.0
    return 2.0 if math.isnan(seconds) else min(max(seconds, 0.0), _LONGEST_S)


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until it is killed or, with `--with-parent`, until standard input ends."""
    parser = argparse.ArgumentParser("demo_backend", description="A small server that names itself.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True, help="0 lets the kernel choose")
    parser.add_argument("--with-parent", action="store_true", help="stop when standard input ends")
    args = parser.parse_args(argv)
    try:
        server = Server(args.name, args.port)
    except OSError as error:
        print(f"{args.name} cannot listen on port {args.port}: {error.strerror}", file=sys.stderr)
        return 3
    if args.with_parent:
        threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
    print(f"{args.name} listens on http://127.0.0.1:{server.server_address[1]} (process {os.getpid()})", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return 0


def _stop_at_end_of_input(server: Server) -> None:
    sys.stdin.buffer.read()
    server.stopping.set()
    server.shutdown()


if __name__ == "__main__":
    sys.exit(main())
