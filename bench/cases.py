"""What is measured: each case is one kind of traffic."""

from __future__ import annotations

from dataclasses import dataclass, field

SMALL = "/small"
HEADERS = "/headers"
LARGE = "/large"  # 1 MiB

# What a browser behind a few services sends: 30 fields, about 1.6 KB.
_MANY_FIELDS = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    "Accept-Encoding: gzip, deflate, br",
    "Cookie: session=9f8b7c6d5e4f3a2b1c0d; theme=dark; consent=all; experiment=b; _ga=GA1.2.123456789.1700000000",
    "Referer: https://shop.example/catalogue/shoes?page=3&sort=price",
    *(f"X-Service-Field-{n:02}: value-of-field-{n:02}-with-some-length" for n in range(24)),
]


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of traffic, the same for every proxy."""

    name: str
    about: str
    connections: int = 64
    path: str = SMALL
    fields: list[str] = field(default_factory=list)  # further request fields
    upload_bytes: int = 0
    backends: int = 3
    access_log: bool = False
    strategy: str = "round_robin"  # Headgate's name for it; "least_connections" is known to all
    floor: bool = False  # can the bare relay of floor.pyx carry it?


CASES = {
    case.name: case
    for case in (
        Case("small", "small answers, 64 keep-alive connections", floor=True),
        Case("one", "small answers, one connection", connections=1, floor=True),
        Case("close", "a new connection for every request", fields=["Connection: close"]),
        Case("body1m", "answers of 1 MiB, 16 connections", connections=16, path=LARGE),
        Case("upload", "uploads of 64 KiB", upload_bytes=65536),
        Case("headers", "30 fields in the request, 20 in the answer", path=HEADERS, fields=_MANY_FIELDS, floor=True),
        Case("logged", "small answers, access log written to a file", access_log=True),
        Case("many", "small answers, 1,000 backends", backends=1000),
    )
}
