"""What the HTTP/1.1 codec costs for one head: nanoseconds, best of several rounds. Run: python bench/codec.py"""

from __future__ import annotations

import time
from collections.abc import Callable

from headgate.engine import codec_testing

REQUESTS = {
    "curl": b"GET /index.html HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
    "browser": (
        b"GET /catalogue/items?page=2&sort=price HTTP/1.1\r\n"
        b"Host: shop.example\r\n"
        b"Connection: keep-alive\r\n"
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
        b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
        b"Accept-Language: en-GB,en;q=0.5\r\n"
        b"Accept-Encoding: gzip, deflate, br\r\n"
        b"Referer: https://shop.example/catalogue/items?page=1\r\n"
        b"Cookie: session=0123456789abcdef; theme=light; consent=1\r\n"
        b"Upgrade-Insecure-Requests: 1\r\n\r\n"
    ),
}
RESPONSES = {
    "nginx": (
        b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Content-Type: text/html\r\nContent-Length: 612\r\nLast-Modified: Sun, 06 Nov 1994 08:00:00 GMT\r\n"
        b'Connection: keep-alive\r\nETag: "63a5d5e4-264"\r\nAccept-Ranges: bytes\r\n\r\n'
    ),
}
ROUNDS, TIMES = 100_000, 7


def best_ns(run: Callable[[], object]) -> float:
    times = []
    for _ in range(TIMES):
        begin = time.perf_counter_ns()
        run()
        times.append((time.perf_counter_ns() - begin) / ROUNDS)
    return min(times)


def main() -> None:
    for name, head in REQUESTS.items():
        message = codec_testing.parse_request(head)
        parse = best_ns(lambda head=head: codec_testing.repeat_parse(head, ROUNDS))  # type: ignore[misc]
        write = best_ns(lambda message=message: codec_testing.repeat_write(message, ROUNDS))  # type: ignore[misc]
        print(f"request  {name:8} {len(head):4} bytes  parse {parse:5.0f} ns  write {write:5.0f} ns")
    for name, head in RESPONSES.items():
        message = codec_testing.parse_response(head)
        parse = best_ns(lambda head=head: codec_testing.repeat_parse(head, ROUNDS, response=True))  # type: ignore[misc]
        write = best_ns(lambda message=message: codec_testing.repeat_write(message, ROUNDS, response=True))  # type: ignore[misc]
        print(f"response {name:8} {len(head):4} bytes  parse {parse:5.0f} ns  write {write:5.0f} ns")


if __name__ == "__main__":
    main()
