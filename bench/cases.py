"""What is measured: each case is one kind of traffic, with what Headgate promises to cost in it.

The goals are those the project set itself before the engine was written; where one is beside the point of a case (there
is no nginx that runs a Python strategy) the case is compared with another configuration of Headgate, a *variant*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .goals import Goal

SMALL = "/small"
HEADERS = "/headers"
LARGE = "/large"  # 1 MiB

# What a browser behind a few services sends: 30 fields, cookies of 1 KiB.
_MANY_FIELDS = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    "Accept-Encoding: gzip, deflate, br",
    "Cookie: " + "; ".join(f"name{n:02}={'0123456789abcdef' * 3}" for n in range(18)),
    "Referer: https://shop.example/catalogue/shoes?page=3&sort=price",
    *(f"X-Service-Field-{n:02}: value-of-field-{n:02}-with-some-length" for n in range(23)),
]
ANSWER_FIELDS = 20  # and five of the server's own: 25

STRATEGIES = (
    "weighted_round_robin",
    "least_connections",
    "random",
    "weighted_random",
    "p2c",
    "ip_hash",
    "least_time",
    "peak_ewma",
    "prequal",
    "ring_hash",
    "maglev",
    "bounded_hash",
    "random_subset",
)
_OPTIONS = {"random_subset": {"name": "random_subset", "balancer": 0, "balancers": 2}}

MOST_US = 1.0  # a strategy over round robin
MOST_STICKY_US = 1.5
MOST_USER_US = 1.5


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of traffic, the same for every proxy."""

    name: str
    about: str
    goals: tuple[Goal, ...] = ()
    connections: int = 64
    path: str = SMALL
    fields: list[str] = field(default_factory=list)  # further request fields
    upload_bytes: int = 0
    backends: int = 3
    access_log: bool = False
    strategy: str = "round_robin"  # Headgate's name for it; the others' names stand in proxies.py
    tls: bool = False  # clients speak TLS; the certificate is on P-256
    floor: str = ""  # which bare relay can carry it: "relay" or "splice"
    peers: tuple[str, ...] = ("nginx", "haproxy", "caddy")
    pool: Mapping[str, Any] = field(default_factory=dict)  # further settings of Headgate's pool
    # Further configurations of Headgate in the same rounds: name -> what differs from this case.
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def variant(self, name: str) -> Case:
        """The case as the configuration `name` of Headgate sees it."""
        return replace(self, **self.variants[name])


def _many(name: str, about: str, strategy: str) -> Case:
    return Case(
        name,
        f"1,000 backends, {about}",
        (Goal("haproxy", 0.85), Goal("with 3", 1.3)),
        backends=1000,
        strategy=strategy,
        variants={"with 3": {"backends": 3}},
    )


CASES = {
    case.name: case
    for case in (
        Case(
            "small",
            "small answers, 64 keep-alive connections",
            (Goal("nginx", 0.85), Goal("floor", plus_us=1.0)),
            floor="relay",
        ),
        Case(
            "one",
            "small answers, one connection",
            (Goal("nginx", 1.0), Goal("nginx", 1.0, figure="p50_ms")),
            connections=1,
            floor="relay",
        ),
        Case(
            "headers",
            "30 fields in the request with 1 KiB of cookies, 25 in the answer",
            (Goal("nginx", 0.9),),
            path=HEADERS,
            fields=_MANY_FIELDS,
            floor="relay",
        ),
        Case("close", "a new connection for every request", (Goal("nginx", 1.0),), fields=["Connection: close"]),
        Case(
            "body1m",
            "answers of 1 MiB, 16 connections",
            (Goal("nginx", 0.65), Goal("floor", 1.15)),
            connections=16,
            path=LARGE,
            floor="splice",
        ),
        Case(
            "upload", "uploads of 64 KiB, 32 connections", (Goal("haproxy", 0.9),), connections=32, upload_bytes=65536
        ),
        _many("many", "round robin", "round_robin"),
        _many("many-p2c", "power of two choices", "p2c"),
        _many("many-lc", "least connections", "least_connections"),
        Case(
            "tls",
            "small answers by TLS, 64 keep-alive connections",
            (Goal("nginx", 0.95),),
            tls=True,
            peers=("nginx", "haproxy"),
        ),
        Case(
            "tlsclose",
            "a new TLS connection for every request, none resumed",
            (Goal("nginx", 1.1),),
            fields=["Connection: close"],
            tls=True,
            peers=("nginx", "haproxy"),
        ),
        Case(
            "tls1m",
            "answers of 1 MiB by TLS, 16 connections",
            (Goal("nginx", 1.0),),
            connections=16,
            path=LARGE,
            tls=True,
            peers=("nginx", "haproxy"),
        ),
        Case("logged", "small answers, access log written to a file", (Goal("nginx", 0.85),), access_log=True),
        Case(
            "policies",
            "every strategy, and sticky sessions by cookie, over round robin",
            (
                *(Goal("headgate", plus_us=MOST_US, subject=name) for name in STRATEGIES),
                Goal("headgate", plus_us=MOST_STICKY_US, subject="sticky"),
            ),
            peers=(),
            variants={
                **{name: {"pool": {"strategy": _OPTIONS.get(name, name)}} for name in STRATEGIES},
                "sticky": {"pool": {"sticky": {"name": "headgate", "secret": "bench-bench-bench-bench-bench-00"}}},
            },
        ),
        Case(
            "user",
            "a user's strategy in plain Python, over the built-in one that does the same",
            (Goal("headgate", plus_us=MOST_USER_US, subject="user"),),
            peers=(),
            variants={"user": {"pool": {"strategy": "bench.user_strategy:InTurn"}}},
        ),
    )
}
