"""The schema: every key a configuration may have, its type, its default and the reason for that default.

TOML, JSON, YAML, the flags of `headgate proxy` and the Python API all become a `Config`, which is what the supervisor
runs from and what it sends to its workers (as msgpack, so every type here survives that). The annotations say how a raw
value is read (`values.py`); the text below each field is printed in docs/configuration.md (`reference.py`).

Units: durations are seconds (float), sizes are bytes (int). 0 means "off" where a limit may be off. Objects are
frozen: to change one, make another with `msgspec.structs.replace`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec.structs import force_setattr

from headgate.config.addresses import BackendUrl, Bind, ReadBind, ReadBindText, ReadUrl
from headgate.config.hosts import Authority, HostPattern, Network
from headgate.config.table import FALSE_IS_NONE as FALSE_IS_NONE
from headgate.config.table import Seconds, SecondsOrOff
from headgate.config.table import Struct as Struct
from headgate.config.tls import ClientCert, ListenerTls, PoolTls, ReadRedirect
from headgate.config.values import (
    Duration,
    FieldName,
    FieldValue,
    LogFieldName,
    Name,
    Part,
    Path,
    Share,
    Size,
    StatusRange,
    Text,
    Token,
    UpgradeToken,
    Whole,
    WorkerCount,
    Wrong,
    quoted,
    string,
)
from headgate.errors import MEANING, Kind

AbsolutePath = Annotated[str | None, Path(), FALSE_IS_NONE]


class AccessLog(Struct, frozen=True, kw_only=True):
    """One line for every request."""

    format: Literal["text", "json", "common", "combined", "off"] = "text"
    """"text" is made for eyes and grep, "json" for programs; "common" and "combined" are Apache's and nginx's, for
    tools that read those. On by default: a load balancer that says nothing about its requests leaves its operator
    blind, and a line costs little (lines are formatted in C and written in batches)."""
    path: Annotated[str, Text()] = "-"
    """A file, or "-" for standard output, where containers and systemd expect it. SIGUSR1 opens it anew, after
    logrotate moved it away."""
    fields: tuple[Annotated[str, LogFieldName()], ...] = ()
    """What a line has in it, in this order, in text (as `name=value`) and JSON: names of docs/access-log.md, and
    "header:NAME" for a header field of the request. Not set: what the format has by itself."""
    sample: Annotated[float, Part()] = 1.0
    """The share of requests that went well which get a line. All others always have theirs: those with an error, a
    status of 500 or more, a retry or a failed attempt. Chosen by the request's id, so every worker, and every balancer
    that the request passes, chooses the same. 1: nothing is missing until somebody decides that it may be."""


class Metrics(Struct, frozen=True, kw_only=True):
    """What `/metrics` of the admin API shows (docs/metrics.md)."""

    backend_latency: bool = False
    """A latency histogram for each backend as well, 22 series for each beside the 25 it has anyway. Off: pools and
    routes have theirs, `headgate top` and the dashboard show backends, and with a thousand of them the page doubles."""


class Decisions(Struct, frozen=True, kw_only=True):
    """Where requests went, kept in memory for `headgate explain --id` and `headgate decisions`: in each worker the last
    1,024 that did not end well or needed another attempt, and the last 1,024 of the others: samples, and what clients
    did wrong. Never a body, a cookie or a credential."""

    sample: Annotated[float | None, Share(), FALSE_IS_NONE] = 0.01
    """Share of requests that are kept although they went well; false for none. One in a hundred: at 1,000 requests a
    second that is the last two minutes, and it costs next to nothing. All (1.0) cost half a microsecond each."""
    query: Literal["drop", "names", "keep"] = "drop"
    """What is kept of a URL's query: nothing, "names" without their values ("?user=*&token=*"), or everything. Nothing,
    since tokens and mail addresses stand there, and whoever may look at decisions need not see them."""


class ReadEndpoint:
    """Reader of `tracing.otlp`."""

    expects = 'a URL such as "http://127.0.0.1:4318/v1/traces"'

    def __call__(self, raw: object) -> str:
        text = string(raw, self.expects)
        if not text.startswith(("http://", "https://")) or len(text.partition("://")[2].partition("/")[0]) == 0:
            raise Wrong(f"expected {self.expects}, got {quoted(text)}")
        return text


class Tracing(Struct, frozen=True, kw_only=True):
    """W3C Trace Context: the balancer takes part in distributed traces with a span of its own. Without this table
    `traceparent` and `tracestate` pass as any other field."""

    traceparent: Literal["forward", "create"] = "forward"
    """"forward" continues traces that clients bring; "create" begins those that they do not, too. A `traceparent` that
    is not valid goes no further, nor does its `tracestate`. Forward: who wants traces to begin here says so."""
    sample: Annotated[float | None, Share(), FALSE_IS_NONE] = 0.01
    """Share of the traces begun here that have the sampled flag; false for none. One in a hundred: every service behind
    pays for each. What clients bring keeps its flag."""
    otlp: Annotated[str, ReadEndpoint()] = ""
    """Where spans of sampled traces are sent, by OTLP over HTTP: "http://127.0.0.1:4318/v1/traces". Needs the extra
    `otlp`; further settings are those of OpenTelemetry's own environment variables (OTEL_EXPORTER_OTLP_HEADERS...). Not
    set: nowhere. At most 1,024 a second and worker; what is beyond that is lost, and no request waits for it."""
    service: Annotated[str, Text("a name")] = "headgate"
    """The `service.name` of these spans."""


class Rollback(Struct, frozen=True, kw_only=True):
    """A reload takes itself back when requests begin to fail. `rollback = {}` turns it on with the defaults."""

    errors: Annotated[float, Share()] = 0.1
    """Share of answers with a status of 500 or more at which the old configuration comes back, if it was lower before
    the reload. A tenth: far above what a healthy service shows, far below a broken one."""
    within: Seconds = 10.0
    """How long after a reload this is watched. What a mistake in a configuration breaks, it breaks at once."""
    requests: Annotated[int, Whole(1, 10**6)] = 20
    """So many answers are needed for a judgement. With fewer, two failures would be a tenth."""


class Supervisor(Struct, frozen=True, kw_only=True):
    """The process that owns sockets, checks and workers."""

    drain: Seconds = 30.0
    """How long requests in flight may take to finish after SIGTERM, `notice` included. 30 s is what Kubernetes and
    most deploy tools wait before they kill."""
    notice: SecondsOrOff = 1.0
    """How long after SIGTERM clients may still come, where a listener has a `ready_path`: it says 503 at once, and
    every answer says `Connection: close`. Without a `ready_path` nobody new is let in, and clients with an idle
    connection have this time to be told. One second: enough for a balancer that looks every second, and short for who
    waits."""
    retire: SecondsOrOff = 3600.0
    """How long a worker that was replaced (an upgrade) or is one too many may go on with what it has: downloads,
    WebSockets. An hour: long enough for almost every download, and old versions do not pile up for ever."""
    watchdog: SecondsOrOff = 5.0
    """A worker that gives no sign of life for so long is killed and replaced. Five seconds: a strategy's import may
    hold up a worker for two or three, and clients of one that hangs wait so long at most."""
    rollback: Annotated[Rollback | None, FALSE_IS_NONE] = None
    """Take a reload back by itself when requests begin to fail. Off: the reload that mends an outage may look like the
    one that causes it."""


class Admin(Struct, frozen=True, kw_only=True):
    """Where a running balancer is looked at and changed, by HTTP and JSON (docs/admin-api.md) and by the commands of
    docs/cli.md. `admin = false` for nowhere."""

    bind: Annotated[Bind | None, ReadBind('an address such as "127.0.0.1:9900" or "unix:/run/headgate.sock"')] = None
    """ "127.0.0.1:9900" or "unix:/run/headgate.sock". Not set: a unix socket that only this user may open,
    `admin.sock` in $RUNTIME_DIRECTORY (systemd sets it), else in /run/headgate for root, else in
    $XDG_RUNTIME_DIR/headgate, else in /tmp/headgate-UID; a second balancer takes `admin-PID.sock` beside it. A socket,
    because the kernel then says who asks, and no browser and no other machine can."""
    token: Annotated[str, Text()] = ""
    """What a request must carry, as `Authorization: Bearer TOKEN`; at least 16 characters. TCP needs one. On a unix
    socket, root and the user the balancer runs as need none; others, where the file's mode was widened to let them in,
    do."""
    hosts: tuple[Annotated[str, Authority()], ...] = ()
    """Host names, besides "localhost" and plain IP addresses, under which a request may ask (its port does not matter).
    None: a name that nobody gave here is how DNS rebinding reaches such a port through a browser."""
    allow_remote: bool = False
    """Listen where other machines can reach it, although the token then crosses the network as plain text? No: put a
    proxy that speaks TLS in front, or a tunnel, and keep this on the loopback."""
    state_file: Annotated[str, Text()] = ""
    """Keeps the changes made while running, so that they hold after a restart as well. Not set: they end with the
    process, and the configuration file alone says how it starts."""

    def __repr__(self) -> str:
        """Without the token, since configurations end up in logs and bug reports."""
        shown = msgspec.structs.asdict(self) | {"token": "***" if self.token else ""}
        return f"Admin({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class ListenerTimeouts(Struct, frozen=True, kw_only=True):
    """What a client may take its time over."""

    client_header: Seconds = 10.0
    """From the first byte of a request to the end of its head. A head is a few packets: a client that needs longer is
    on a dead link or holds connections open on purpose (slowloris)."""
    client_body: Seconds = 60.0
    """Between two reads of a request body. Counted from byte to byte, so that a large upload over a slow line
    passes."""
    client_idle: Seconds = 75.0
    """Between two requests on one connection. nginx's value: longer than browsers wait between page loads, shorter
    than the patience of most NAT tables."""
    client_write: Seconds = 60.0
    """Between two writes that the client's side accepts. A reader that takes nothing for a minute is gone."""


class ListenerLimits(Struct, frozen=True, kw_only=True):
    """What a client may send."""

    head: Annotated[int, Size(lowest=2**10, highest=2**20)] = 32 * 2**10
    """A whole request head. Four times what browsers send with many cookies, and what most backends accept at most
    (431 beyond)."""
    headers: Annotated[int, Whole(1, 10_000)] = 100
    """Header fields in a request. Apache's value (431 beyond)."""
    request_line: Annotated[int, Size(lowest=256, highest=2**20)] = 16 * 2**10
    """The request line. Twice the 8,000 bytes that RFC 9112 section 3 asks for, and half of `head`, so that a long URL
    leaves room for fields (414 beyond)."""
    body: Annotated[int, Size(off=True)] = 0
    """A request body (413 beyond). Off: bodies are streamed and cost no memory here, and what is too large is for the
    application to say."""


class Listener(Struct, frozen=True, kw_only=True):
    """An address where clients are accepted."""

    bind: Annotated[Bind, ReadBind()]
    """ "127.0.0.1:8080", "[::1]:8080", "unix:/run/hg.sock", or ":8080" for every address of the machine, IPv4 and
    IPv6. Port 0 lets the kernel choose."""
    status_path: AbsolutePath = None
    """Where this listener answers with the state of all backends, as JSON; to those in `status_allow` only. Off,
    since it takes a path away from the application."""
    status_allow: tuple[Annotated[str, Network()], ...] = ("127.0.0.0/8", "::1")
    """Networks whose clients may see `status_path`; all others get 404. Loopback: the page names inner addresses.
    "unix" allows peers on a unix socket, and is not a default because such a peer is often a proxy with the whole
    world behind."""
    ready_path: AbsolutePath = None
    """Where this listener answers 200 while it takes traffic and 503 before and after, for balancers in front. Off,
    since it takes a path away from the application."""
    trusted_proxies: tuple[Annotated[str, Network()], ...] = ()
    """Networks whose X-Forwarded-* and Forwarded fields are believed ("unix" for peers on a unix socket). Nobody:
    whoever may set them may claim to be anybody."""
    forwarded: Literal["x", "rfc7239", "both"] = "x"
    """How backends learn who calls: "x" by X-Forwarded-For, -Proto and -Host; "rfc7239" by the Forwarded field, without
    X-Forwarded-*; "both". Of `trusted_proxies`, X-Forwarded-For is believed, with "rfc7239" Forwarded instead: always
    the one that this says, since a proxy that writes one often passes on the other as its client sent it. "x", which
    every framework reads."""
    proxy_protocol: tuple[Annotated[str, Network()], ...] = ()
    """Networks of proxies that speak the PROXY protocol (version 1 or 2) here: every connection has to begin with its
    header, and comes from whom the header names (docs/who-is-calling.md). All others are refused, so that nobody else
    can say who they are. "unix" for peers on a unix socket. Not set: the protocol is not spoken here."""
    via: Annotated[str | None, Token("a name for Via", off=True), FALSE_IS_NONE] = "headgate"
    """The name this listener adds to the Via field, or false for none. On, because RFC 9110 section 7.6.3 asks it of
    every proxy, and it makes loops visible."""
    allow_half_close: bool = False
    """Does a client that shuts down its sending side still want its answer? Most such clients are gone, and the work
    for them is wasted, so no (the attempt is cancelled, and logged as 499)."""
    max_connections: Annotated[int, Whole(1, 10**7, off=True)] = 0
    """Open client connections, in each worker; more are closed at once. Off: the limit on open files bounds them, and
    accepting pauses there."""
    max_connections_per_client: Annotated[int, Whole(1, 10**7, off=True)] = 0
    """Open connections from one client address, in each worker. Off: a company or a mobile network may be one
    address."""
    timeouts: ListenerTimeouts = ListenerTimeouts()
    """What a client may take its time over."""
    limits: ListenerLimits = ListenerLimits()
    """What a client may send."""
    tls: Annotated[ListenerTls | None, FALSE_IS_NONE] = None
    """Speak TLS here, with these certificates (docs/tls.md). None: plain HTTP, since without a certificate there is
    nothing to speak TLS with."""
    redirect_https: Annotated[int, ReadRedirect()] = 0
    """Answer every request here with a redirect to the same URL by https: true for port 443, or the port. The status is
    301 for GET and HEAD, 308 for other methods, which must stay what they are. For the plain listener beside one with
    `tls`; `status_path` and `ready_path` are answered as before. Off: a listener that serves nothing has to be
    wanted."""


class PoolTimeouts(Struct, frozen=True, kw_only=True):
    """How long a backend may take."""

    connect: Seconds = 3.0
    """To accept a connection. Long enough for one lost SYN, which is sent again after 1 s; short enough to try
    another backend while the client still waits."""
    first_byte: SecondsOrOff = 60.0
    """From the request being sent to the first byte of the answer. nginx's value; the slowest reports of most
    applications pass."""
    body_idle: SecondsOrOff = 300.0
    """Between two reads of an answer's body. Five minutes: event streams send a comment every 15 to 60 s, and some
    forget to."""
    keepalive: Seconds = 60.0
    """How long an unused connection is kept. Servers close theirs after 5 to 75 s; the engine learns a shorter time
    from each."""
    request: SecondsOrOff = 0.0
    """For a whole exchange, its retries included. Off: any value would cut event streams and large downloads."""
    tunnel_idle: SecondsOrOff = 300.0
    """With no byte either way after an upgrade. Five minutes: WebSocket libraries ping every 20 to 60 s."""


class RouteTimeouts(Struct, frozen=True, kw_only=True):
    """The pool's timeouts, for this route only. What is not given is the pool's."""

    first_byte: Annotated[float | None, Duration(off=True)] = None
    """As in the pool. Not set: the pool's."""
    body_idle: Annotated[float | None, Duration(off=True)] = None
    """As in the pool. Not set: the pool's."""
    request: Annotated[float | None, Duration(off=True)] = None
    """As in the pool. Not set: the pool's."""
    tunnel_idle: Annotated[float | None, Duration(off=True)] = None
    """As in the pool. Not set: the pool's."""

    def over(self, pool: PoolTimeouts) -> PoolTimeouts:
        """The timeouts that hold for a request on this route."""
        given = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        return msgspec.structs.replace(pool, **given) if given else pool


class RouteLimits(Struct, frozen=True, kw_only=True):
    """The listener's limits, for this route only. What is not given is the listener's."""

    body: Annotated[int | None, Size(off=True)] = None
    """As in the listener. Not set: the listener's."""


class Route(Struct, frozen=True, kw_only=True):
    """Which requests go to which pool. An exact host comes before "*.example", and that before none; then the longest
    prefix wins."""

    pool: Annotated[str, Name("the name of a pool")]
    """Where matching requests go."""
    listener: Annotated[str | None, ReadBindText()] = None
    """The `bind` of the one listener this route belongs to. Not set: all of them, since most have one."""
    host: Annotated[str | None, HostPattern()] = None
    """"shop.example", or "*.example" for every name below it; without port, in any case. Not set: every host."""
    path_prefix: Annotated[str, Path()] = "/"
    """Whole segments: "/api" matches /api and /api/x, not /apix. "/" matches every path."""
    client_cert: Annotated[ClientCert | None, FALSE_IS_NONE] = None
    """Only requests of clients that have shown a certificate which `client_ca` of the listener vouches for: true for
    any, or a table. Goes before the same route without it. None: certificates, if any, do not matter."""
    upgrade: tuple[Annotated[str, UpgradeToken()], ...] = ("websocket",)
    """Protocols that a client may switch to (the Upgrade field); [] for none. WebSocket, because it is what
    applications use; others are a door that should be opened knowingly."""
    timeouts: RouteTimeouts = RouteTimeouts()
    """Instead of the pool's."""
    limits: RouteLimits = RouteLimits()
    """Instead of the listener's."""


HIGHEST_PRIORITY = 15
"""Each has a strategy of its own; more than a few levels are hardly ever wanted."""


class Backend(Struct, frozen=True, kw_only=True):
    """A server. A plain string stands for a table with only a url."""

    EXPECTS: ClassVar[str] = "a URL or a table"

    url: Annotated[BackendUrl, ReadUrl()]
    """ "http://host:port" (port 80 where none is given), "https://host:port" (443; see [pools.NAME.tls]) or
    "unix:/run/app.sock". A name that does not resolve yet is looked up again while running."""
    weight: Annotated[int, Whole(0, 256)] = 1
    """Its share against the others of the pool, exactly so over time where a strategy promises shares
    (docs/strategies.md says which do). 0: sessions bound to it only, nothing new."""
    priority: Annotated[int, Whole(0, HIGHEST_PRIORITY)] = 0
    """Which backends come first: those of 0, and higher ones stand by. A level bears 40 % more than its part; what it
    cannot bear any more the next takes, in proportion to what is missing. 0: without a reason all are equal."""
    max_requests: Annotated[int, Whole(1, 10**6, off=True)] = 0
    """Requests in flight at it, over all workers; while there are so many it is not picked (see `queue`). Off: what a
    server bears is known to its operator, not to us."""
    max_connections: Annotated[int, Whole(1, 10**6, off=True)] = 0
    """Open connections to it, over all workers, unused ones included; active checks are not counted. Off: give the
    number of its threads or processes where one connection occupies one of them."""
    name: Annotated[str, Name()] = ""
    """How logs, the status page and sticky cookies call it; one name once in a pool. Not set: its url."""

    def __post_init__(self) -> None:
        if not self.name:
            force_setattr(self, "name", self.url.text)

    @staticmethod
    def expand(raw: object) -> object:
        """A plain string stands for a table with only a url."""
        return {"url": raw} if isinstance(raw, str) else raw


class Strategy(Struct, frozen=True, kw_only=True):
    """How a backend is picked. A plain string stands for a table with only a name."""

    EXPECTS: ClassVar[str] = "the name of a strategy or a table"

    name: Annotated[str, Text("the name of a strategy")]
    """A built-in one, one that a package registered as `headgate.strategies` entry point, or a class of your own as
    "package.module:Class"."""
    options: dict[str, Any] = {}
    """All other keys of the table; they are passed to the class as keyword arguments."""

    @staticmethod
    def expand(raw: object) -> object:
        """A plain string stands for a table with only a name; keys other than `name` are options."""
        if isinstance(raw, str):
            return {"name": raw}
        if isinstance(raw, dict) and isinstance(raw.get("options", {}), dict):
            options = {key: value for key, value in raw.items() if key not in ("name", "options")}
            rest = {key: value for key, value in raw.items() if key == "name"}
            return {**rest, "options": {**raw.get("options", {}), **options}}
        return raw


class Sticky(Struct, frozen=True, kw_only=True):
    """A cookie keeps a client on its backend. "cookie" stands for a table with the defaults."""

    EXPECTS: ClassVar[str] = '"cookie" or a table'

    name: Annotated[str, Token("a cookie name")] = ""
    """The cookie's name. Not set: "headgate_" and the pool's name, so that two pools on one host do not overwrite
    each other's."""
    secret: Annotated[str, Text()] = ""
    """Signs the cookie; at least 16 characters. Not set: a random one, kept in a file that survives restarts. Give
    one where several machines balance the same pool."""
    secure: bool = False
    """Should browsers send it over https only? Turn it on where clients come by https; no, since over plain HTTP the
    cookie would then be lost."""
    same_site: Literal["lax", "strict", "none"] = "lax"
    """The cookie's SameSite. "lax" is what browsers take when nothing is said, and links from other sites keep their
    backend."""
    ttl: Annotated[float, Duration(off=True, lowest_s=1.0, highest_s=400 * 86400.0)] = 0.0
    """How long the browser keeps it. Off: until it is closed, which is how long most sessions live. At most 400 days,
    where browsers cut it."""

    @staticmethod
    def expand(raw: object) -> object:
        """ "cookie" stands for a table with the defaults."""
        if isinstance(raw, str):
            if raw != "cookie":
                raise Wrong(f"unknown stickiness {quoted(raw)}", 'did you mean "cookie"?')
            return {}
        return raw

    def __repr__(self) -> str:
        """Without the secret, since configurations end up in logs and bug reports."""
        shown = msgspec.structs.asdict(self) | {"secret": "***" if self.secret else ""}
        return f"Sticky({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


HTTP_CHECK_KEYS = ("path", "method", "statuses", "headers", "host")
_HEALTH_TIMEOUT_S = 2.0


class Health(Struct, frozen=True, kw_only=True):
    """The active check: backends are asked beside the traffic. No table means type "tcp"."""

    type: Literal["tcp", "http", "none"] = "tcp"
    """ "tcp" connects (and shakes hands, where the backend's URL is https); "http" sends a request and looks at the
    status; "none" asks nothing and believes live traffic only. "tcp" suits every backend. Where a path, method,
    statuses, headers or host is given, "http" is the default."""
    path: Annotated[str, Path(query=True)] = "/"
    """What an http check asks for. Every server has one."""
    port: Annotated[int | None, Whole(1, 65535)] = None
    """Another port to check than the backend's own. Not set: its own, since that is what must work."""
    method: Literal["GET", "HEAD", "OPTIONS"] = "GET"
    """Of an http check. GET, because every health endpoint answers it."""
    statuses: tuple[Annotated[tuple[int, int], StatusRange()], ...] = ((200, 200),)
    """Answers that pass: statuses and ranges such as "200-299". Only 200: a redirect to a login page is not health."""
    interval: Seconds = 5.0
    """From one check of a backend to the next. With `fall` = 3 a silent failure is seen within 15 s; failures in
    traffic are seen at once."""
    timeout: Seconds = _HEALTH_TIMEOUT_S
    """For a whole check; not longer than the interval. A backend that needs 2 s to say it is well is not. With a
    shorter interval, the interval is the default."""
    fall: Annotated[int, Whole(1, 100)] = 3
    """Failed checks in a row that take a backend out. One lost packet is no reason."""
    rise: Annotated[int, Whole(1, 100)] = 2
    """Passed checks in a row that let it back in. One good answer during a crash loop is no reason either."""
    headers: dict[Annotated[str, FieldName()], Annotated[str, FieldValue()]] = {}
    """Further fields of an http check."""
    host: Annotated[str | None, Authority()] = None
    """The Host field of an http check. Not set: the backend's own address."""

    @staticmethod
    def expand(raw: object) -> object:
        """Chooses the defaults that depend on other keys: `type` and `timeout`. false stands for type "none"."""
        if raw is False:
            return {"type": "none"}
        if not isinstance(raw, dict):
            return raw
        table = dict(raw)
        if "type" not in table and any(key in table for key in HTTP_CHECK_KEYS):
            table["type"] = "http"
        if "timeout" not in table and "interval" in table:
            try:
                interval_s = Duration()(table["interval"])
            except Wrong:
                return table  # reported where `interval` is read
            table["timeout"] = min(_HEALTH_TIMEOUT_S, interval_s)
        return table

    def accepts(self, status: int) -> bool:
        """Does this status pass the check?"""
        return any(first <= status <= last for first, last in self.statuses)


class Breaker(Struct, frozen=True, kw_only=True):
    """Live traffic takes failing backends out: closed, open, half-open. `breaker = false` turns it off."""

    failure_threshold: Annotated[int, Whole(1, 10_000)] = 5
    """Failures in a row that open it. Envoy's value: five in a row are hardly chance."""
    failure_rate: Annotated[float | None, Share(), FALSE_IS_NONE] = 0.5
    """Share of failed requests that opens it, once there were ten in the window; false for never. Half: a backend
    that fails every second request is worth less than none."""
    window: Seconds = 10.0
    """What the rate is taken over. Long enough to see ten requests at 1 a second, short enough to forget."""
    recovery: Seconds = 10.0
    """How long it stays open the first time; doubles each time it opens again. About what a process takes to
    restart."""
    recovery_max: Seconds = 300.0
    """The longest it stays open. Five minutes, so that a repaired backend is found without help."""
    success_threshold: Annotated[int, Whole(1, 100)] = 2
    """Requests in a row that must succeed while half-open to close it. Two, as with `rise`: one may be luck."""


class ReadHedgeAfter:
    """Reader of `retry.hedge_after`: seconds, or a percentile as "p95"."""

    expects = 'a duration, a percentile such as "p95", or "off"'

    def __call__(self, raw: object) -> float | str:
        if isinstance(raw, str) and raw.startswith("p"):
            try:
                percentile = float(raw[1:]) if raw[1:].replace(".", "", 1).isdecimal() and raw.isascii() else 0.0
            except ValueError:
                percentile = 0.0
            if not 50 <= percentile < 100:
                raise Wrong(f"{quoted(raw)} is no percentile from p50 to p99.9", 'did you mean "p95"?')
            return raw
        try:
            return Duration(off=True)(raw)
        except Wrong as wrong:
            if isinstance(raw, str) and not raw[:1].isdecimal():
                raise Wrong(f"expected {self.expects}, got {quoted(raw)}") from None
            raise Wrong(wrong.message, wrong.suggestion) from None


class Queue(Struct, frozen=True, kw_only=True):
    """Where requests wait while every backend they could go to is full, first come, first served. `queue = false`: they
    are answered 503 at once. A session bound to a full backend waits for that one; after `timeout` it goes to any other
    that has a place."""

    size: Annotated[int, Whole(1, 10**6, off=True)] = 1024
    """Requests that may wait, over all workers; those beyond it are answered 503 with Retry-After. Envoy's value: each
    holds a client connection and a buffer of 16 KiB, 16 MiB in all, and a longer queue would only time out."""
    timeout: Seconds = 5.0
    """How long a request may wait; then it is answered 503 with Retry-After. As long as people wait before they press
    reload, which would only lengthen the queue."""

    @staticmethod
    def expand(raw: object) -> object:
        """false stands for a size of none."""
        return {"size": "off"} if raw is False else raw


class PoolLimits(Struct, frozen=True, kw_only=True):
    """How much the pool takes at a time; what is beyond that waits in `queue`."""

    max_requests: Annotated[int, Whole(1, 10**6, off=True)] = 0
    """Requests in flight at the whole pool, over all workers. Off: backends have limits of their own, this one is for
    what they share, such as a database."""
    adaptive: bool = False
    """Finds out by itself how many requests in flight the pool bears: as long as the time to the first byte does not
    grow, more are let through, and fewer when it does (gradient2; each worker by itself). Off: it takes some minutes of
    traffic to learn, and a limit that is known is better. It is for surges: what has been slow for five minutes it
    takes for usual, and lets more through by and by, up to 200 per backend after some fifteen. `max_requests` beside it
    bounds that."""


_RETRY_KINDS = (Kind.RESET, Kind.FIRST_BYTE_TIMEOUT, Kind.BAD_HEAD)
RETRY_WORDS = tuple(MEANING[kind].word for kind in _RETRY_KINDS)


class ReadCondition:
    """Reader of one entry of `retry.on`: a word, or a status the backend answers."""

    expects = ", ".join(f'"{word}"' for word in RETRY_WORDS) + " or a status from 400 to 599"

    def __call__(self, raw: object) -> str | int:
        if isinstance(raw, str) and raw in RETRY_WORDS:
            return raw
        if isinstance(raw, int) and not isinstance(raw, bool) and 400 <= raw <= 599:
            return raw
        if isinstance(raw, str) and raw.startswith("connect"):
            raise Wrong("connect failures are always tried elsewhere, nothing was sent", "leave it out")
        raise Wrong(f"expected {self.expects}, got {quoted(raw) if isinstance(raw, str) else raw}")


class Retry(Struct, frozen=True, kw_only=True):
    """A request that failed is tried on another backend, never on one already tried. Connect failures always are, and
    do not count."""

    retries: Annotated[int, Whole(0, 10)] = 2
    """Further attempts after the first. Two: with three attempts, one backend in ten broken costs one request in a
    thousand."""
    on: tuple[Annotated[str | int, ReadCondition()], ...] = (*RETRY_WORDS, 502, 503, 504)
    """What is tried again, for idempotent requests only (RFC 9110 section 9.2.2). These say that the backend, not the
    request, is at fault; a 500 may be the request's."""

    budget: Annotated[float | None, Share(), FALSE_IS_NONE] = 0.2
    """Retries and hedges may add this share to the requests of the last 10 s; false for no limit. Connect failures cost
    nothing. A fifth, as Finagle, linkerd and Envoy have it: enough for one broken backend in five, and when all of them
    fail it is a fifth more load that retries add, not twice as much."""
    reserve: Annotated[int, Whole(0, 1_000_000)] = 100
    """Retries beyond `budget`, over all workers; they come back as requests succeed, in 10 s at the latest where
    traffic is small. A hundred: a pool with ten requests a second could hardly retry otherwise."""
    hedge_after: Annotated[float | str, ReadHedgeAfter()] = 0.0
    """When an idempotent request has had no answer for so long, it is sent to a second backend too, and the first good
    answer counts. "p95" is the time in which 95 of 100 recent requests had their first byte. Off: it is load on
    purpose, and only who knows their latencies knows whether it helps."""

    def kinds(self) -> frozenset[Kind]:
        """The failures in `on`. Whether the backend broke a request off or, at its drain's deadline, the balancer did
        makes no difference to the request."""
        kinds = frozenset(kind for kind in _RETRY_KINDS if MEANING[kind].word in self.on)
        return kinds | {Kind.DRAIN_DEADLINE} if Kind.RESET in kinds else kinds

    def statuses(self) -> frozenset[int]:
        """The statuses in `on`."""
        return frozenset(status for status in self.on if isinstance(status, int))


class ReadPoolHost:
    """Reader of a pool's `host`."""

    expects = '"client", "backend" or a host name'

    def __call__(self, raw: object) -> str:
        return raw if raw in ("client", "backend") and isinstance(raw, str) else Authority(self.expects)(raw)


class ReadBody:
    """Reader of a static answer's body: any text."""

    expects = "a string"

    def __call__(self, raw: object) -> str:
        return string(raw, self.expects)


_CONTENT_TYPES = {".html": "text/html; charset=utf-8", ".json": "application/json", ".txt": "text/plain; charset=utf-8"}


class Fallback(Struct, frozen=True, kw_only=True):
    """What serves requests while nothing in the pool is routable: another pool, or a static answer. A plain string
    stands for a table with only a pool."""

    EXPECTS: ClassVar[str] = "the name of a pool or a table"

    pool: Annotated[str, Text("the name of a pool")] = ""
    """The pool that serves them, with its own settings. Not set: a static answer."""
    status: Annotated[int, Whole(200, 599)] = 503
    """Of the static answer. 503, since that is what it is; caches and crawlers keep a 200 for good."""
    body: Annotated[str, ReadBody()] = ""
    """Of the static answer."""
    file: Annotated[str, Text("a file")] = ""
    """A file with the body, at most 48 KiB, read at start and at each reload."""
    content_type: Annotated[str, FieldValue()] = ""
    """Of the static answer. Not set: by the file's name (.html, .json, .txt), "text/plain; charset=utf-8" otherwise."""
    headers: dict[Annotated[str, FieldName()], Annotated[str, FieldValue()]] = {}
    """Further fields of the static answer. Without a Cache-Control it gets "no-store", and a 503 without a Retry-After
    gets one of 1 s."""

    @staticmethod
    def expand(raw: object) -> object:
        """A plain string stands for a table with only a pool."""
        return {"pool": raw} if isinstance(raw, str) else raw

    def type_of_body(self) -> str:
        """The Content-Type of the static answer."""
        return self.content_type or _CONTENT_TYPES.get(PurePath(self.file).suffix, _CONTENT_TYPES[".txt"])


FALLBACK_BODY_LIMIT = 48 * 2**10
"""Bytes of a static answer's body: it leaves with its head from one buffer."""


class Pool(Struct, frozen=True, kw_only=True):
    """Backends that serve the same thing, and how one of them is picked."""

    backends: tuple[Backend, ...]
    """The servers: URLs, or tables where one needs a weight or a name. [] is a pool that answers 503 until backends are
    added while it runs; `headgate check` warns of it."""
    strategy: Strategy = Strategy(name="round_robin")
    """How a backend is picked. Round robin: what everybody expects of a load balancer, and right for equal backends;
    "p2c" is better where requests or backends differ."""
    sticky: Annotated[Sticky | None, FALSE_IS_NONE] = None
    """ "cookie" keeps a client on its backend. Off: applications that keep their state elsewhere balance better
    without."""
    host: Annotated[str, ReadPoolHost()] = "client"
    """The Host field backends see: "client" passes on what the client sent, "backend" sends the backend's own
    address, anything else is sent as it is. The client's, because applications build links from it."""
    proxy_protocol: Annotated[Literal["v1", "v2"] | None, FALSE_IS_NONE] = None
    """Tell each backend who the client is by a PROXY protocol header, before anything else: "v1", a line of text, or
    "v2", binary. Backends have to expect it. Such a connection belongs to one client, so each request has one of its
    own, and `keepalive` means nothing here. Off: HTTP backends read the client from a field, and keep connections."""
    keepalive: Annotated[int, Whole(1, 100_000, off=True)] = 256
    """Unused connections kept open to each backend, in each worker; false for none. 256: a steady load then never
    connects anew, and after a burst the rest does not hold on to backend threads and descriptors."""
    panic: Annotated[float | None, Share(), FALSE_IS_NONE] = 0.5
    """When less than this share of the pool is routable, ejected backends are used again; false for never. Half: when
    most of a pool looks broken, the cause is rarely the backends, and the rest would not bear the load."""
    slow_start: SecondsOrOff = 10.0
    """How long a backend that came (back) gets a growing part of its weight, from a tenth on, while another has been
    there for as long. 10 s: connections, caches and compilers of most applications are warm by then."""
    health: Health = Health()
    """The active check; false stands for type "none"."""
    breaker: Annotated[Breaker | None, FALSE_IS_NONE] = Breaker()
    """What failing traffic does to a backend. On: checks see a dead process, only traffic sees a broken one."""
    retry: Retry = Retry()
    """What becomes of a request that failed."""
    fallback: Annotated[Fallback | None, FALSE_IS_NONE] = None
    """What serves requests while nothing in the pool is routable. None: 503, so that clients and the balancers before
    this one see what is the matter."""
    queue: Queue = Queue()
    """Where requests wait while all backends are full."""
    limits: PoolLimits = PoolLimits()
    """How much the pool takes at a time."""
    timeouts: PoolTimeouts = PoolTimeouts()
    """How long a backend may take."""
    tls: PoolTls = PoolTls()
    """How backends with an https URL are met, by requests and by checks."""


class Config(Struct, frozen=True, kw_only=True):
    """A whole configuration."""

    workers: Annotated[int | Literal["auto"], WorkerCount()] = 1
    """Processes that carry traffic; "auto" is one for each core this process may use. One: it carries tens of
    thousands of requests a second, and leaves the other cores to the applications beside it."""
    access_log: AccessLog = AccessLog()
    """One line for every request."""
    decisions: Annotated[Decisions | None, FALSE_IS_NONE] = Decisions()
    """Where requests went. On: what happened at three in the morning is asked for afterwards. false keeps none."""
    tracing: Annotated[Tracing | None, FALSE_IS_NONE] = None
    """Distributed traces. Off: it costs each request the reading and writing of a field."""
    metrics: Metrics = Metrics()
    """What is shown to Prometheus."""
    admin: Annotated[Admin | None, FALSE_IS_NONE] = Admin()
    """Where it is looked at and changed while it runs. On: an operator must be able to take a backend out at three in
    the morning."""
    supervisor: Supervisor = Supervisor()
    """The process that owns sockets, checks and workers."""
    listeners: tuple[Listener, ...] = ()
    """Where clients are accepted; at least one."""
    routes: tuple[Route, ...] = ()
    """Optional while there is one pool: then every request goes there."""
    pools: dict[str, Pool] = {}
    """What requests are balanced over; at least one."""

    def __post_init__(self) -> None:
        # Whoever reads a Config finds a route to its only pool, and a cookie name in every pool.
        if not self.routes and len(self.pools) == 1:
            force_setattr(self, "routes", (Route(pool=next(iter(self.pools))),))
        named = {name: _with_cookie_name(name, pool) for name, pool in self.pools.items()}
        if any(named[name] is not pool for name, pool in self.pools.items()):
            force_setattr(self, "pools", named)

    @staticmethod
    def from_dict(tree: Mapping[str, Any]) -> Config:
        """Checks a tree of plain Python values with the keys of a configuration file; raises `ConfigError`.

        `${ENV}` is not expanded: a program has its own ways to the environment.
        """
        from headgate.config.validate import validate

        return validate(dict(tree))

    @staticmethod
    def from_simple(
        to: Sequence[str | Mapping[str, Any]],
        *,
        listen: str | Sequence[str] = "127.0.0.1:8080",
        **options: Any,
    ) -> Config:
        """One pool called "web" from few words: what `headgate proxy` runs; raises `ConfigError`. See
        `simple.simple_tree`."""
        from headgate.config.simple import simple_tree
        from headgate.config.validate import validate

        return validate(simple_tree(to, listen=listen, **options))


def _with_cookie_name(name: str, pool: Pool) -> Pool:
    if pool.sticky is None or pool.sticky.name:
        return pool
    sticky = msgspec.structs.replace(pool.sticky, name=f"headgate_{name}")
    return msgspec.structs.replace(pool, sticky=sticky)
