"""The site on the standard library's http.server. Arguments: port, "HTTP/1.0" or "HTTP/1.1".

As HTTP/1.0 it ends each answer by closing; as HTTP/1.1 it sends chunks and answers `Expect` by itself.
"""

from __future__ import annotations

import hashlib
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.e2e.harness.sites.asgi import pieces


class Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        kind, _, number = self.path.lstrip("/").partition("/")
        if kind not in ("bytes", "chunked"):
            self._whole(os.environ["SITE_NAME"].encode() + b"\n")
            return
        self.send_response(200)
        chunks = kind == "chunked" and self.protocol_version == "HTTP/1.1"
        if chunks:
            self.send_header("Transfer-Encoding", "chunked")
        elif kind == "bytes":
            self.send_header("Content-Length", number)
        self.end_headers()
        if self.command == "HEAD":
            return
        for piece in pieces(int(number)):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunks else piece)
        if chunks:
            self.wfile.write(b"0\r\n\r\n")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        digest, count = hashlib.sha256(), 0
        if self.headers["Transfer-Encoding"] == "chunked":
            while size := int(self.rfile.readline(), 16):
                digest.update(self.rfile.read(size))
                count += size
                self.rfile.readline()
            while self.rfile.readline() != b"\r\n":
                pass
        else:
            left = int(self.headers["Content-Length"])
            while left:
                data = self.rfile.read(min(left, 65536))
                digest.update(data)
                count += len(data)
                left -= len(data)
        self._whole(f"{count} {digest.hexdigest()}\n".encode())

    do_PUT = do_POST

    def _whole(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


if __name__ == "__main__":
    Handler.protocol_version = sys.argv[2]
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
