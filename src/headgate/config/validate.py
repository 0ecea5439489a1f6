"""From a raw tree to a `Config`, or to every mistake in it at once.

The walker reads each key by itself; the checks here are about keys that must agree with each other. A check is left out
where one of its keys is wrong already: its default would stand in, and the complaint would make no sense.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from headgate.balancing import options, registry
from headgate.config import log_fields
from headgate.config.addresses import Bind
from headgate.config.environment import expand_tree
from headgate.config.problems import Key, Problems, did_you_mean
from headgate.config.schema import FALLBACK_BODY_LIMIT, HTTP_CHECK_KEYS, Config, Health, Listener, Pool, Route, Strategy
from headgate.config.tls import ClientCert
from headgate.config.validate_tls import check_tls
from headgate.config.values import format_duration, format_size, quoted
from headgate.config.walk import INVALID, Walker

# 16 characters are 64 bits even in hexadecimal: nobody guesses that over a network.
_SECRET_LENGTH = 16


def validate(
    tree: object,
    *,
    file: str = "",
    line_of: Callable[[Key], int | None] | None = None,
    environ: Mapping[str, str] | None = None,
    label: Callable[[Key], str] | None = None,
) -> Config:
    """Makes a `Config` of a raw tree, or raises `ConfigError` with all mistakes.

    `line_of` finds the line of a key in `file`; `environ` expands `${NAME}` (None: nothing is expanded); `label`
    renders a key in messages, for trees that were not written by hand.
    """
    problems = Problems(file, line_of, label)
    if environ is not None:
        tree = expand_tree(tree, environ, problems)
    walker = Walker(problems)
    config = walker.table(Config, tree, ())
    if config is not INVALID:
        _Checks(config, tree, walker, problems).run()
    if problems:
        raise problems.error()
    assert isinstance(config, Config)
    return config


class _Checks:
    """What concerns several keys."""

    def __init__(self, config: Config, tree: object, walker: Walker, problems: Problems) -> None:
        self._config = config
        self._tree = tree
        self._where = walker.where
        self._problems = problems

    def run(self) -> None:
        self._access_log()
        self._listeners()
        self._admin()
        self._pools()
        self._routes()
        check_tls(self._config, self._problems, self._where)

    def _given(self, key: Key) -> object:
        """The raw value at a key; None where there is none."""
        value: object = self._tree
        for part in key:
            if isinstance(value, dict) and isinstance(part, str):
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int):
                value = value[part]
            else:
                return None
        return value

    # --- the access log ----------------------------------------------------------------------------------------------

    def _access_log(self) -> None:
        log = self._config.access_log
        key: Key = ("access_log", "fields")
        if not log.fields or self._problems.touches(("access_log",)):
            return
        if log.format not in ("text", "json"):
            self._problems.add(key, f'the format "{log.format}" has fields of its own', 'use format = "text" or "json"')
        twice = sorted({name for name in log.fields if log.fields.count(name) > 1})
        for name in twice:
            self._problems.add(key, f"{quoted(name)} stands there twice")
        if len(log.fields) > log_fields.MOST:
            self._problems.add(key, f"{len(log.fields)} fields, at most {log_fields.MOST}")
        of_header = ("user_agent", "referer")
        headers = [name for name in log.fields if name.startswith(log_fields.HEADER) or name in of_header]
        if len(headers) > log_fields.MOST_HEADERS:
            self._problems.add(key, f"{len(headers)} header fields, at most {log_fields.MOST_HEADERS}")

    # --- listeners ---------------------------------------------------------------------------------------------------

    def _listeners(self) -> None:
        listeners = self._config.listeners
        if not listeners and not self._problems.touches(("listeners",)):
            self._problems.add(
                ("listeners",), "no listener: nothing would be served", 'add [[listeners]] with bind = ":8080"'
            )
        seen: dict[tuple[int, str], list[Bind]] = {}
        for listener in listeners:
            key = self._where(listener)
            rivals = seen.setdefault((listener.bind.port, listener.bind.path), [])
            for other in rivals:
                if listener.bind == other:
                    self._problems.add((*key, "bind"), f"{quoted(other.text)} is bound twice")
                    break
                if listener.bind.overlaps(other):
                    message = (
                        f"{quoted(listener.bind.text)} overlaps {quoted(other.text)}: one port cannot be bound for both"
                    )
                    self._problems.add((*key, "bind"), message)
                    break
            rivals.append(listener.bind)
            self._own_paths(listener, key)

    def _own_paths(self, listener: Listener, key: Key) -> None:
        if listener.status_path is not None and listener.status_path == listener.ready_path:
            self._problems.add((*key, "ready_path"), "is the same as status_path")

    # --- the admin API -----------------------------------------------------------------------------------------------

    def _admin(self) -> None:
        admin = self._config.admin
        if admin is None or not self._given(("admin",)):
            return
        key: Key = ("admin",)
        if admin.token and len(admin.token) < _SECRET_LENGTH:
            message = f"too short: {len(admin.token)} characters, at least {_SECRET_LENGTH}"
            self._problems.add((*key, "token"), message)
        if re.fullmatch(r"[\x21-\x7e]*", admin.token) is None:
            self._problems.add((*key, "token"), "cannot stand in a header: printable ASCII without spaces only")
        if admin.bind is None or self._problems.touches((*key, "bind")):
            return
        for listener in self._config.listeners:
            if admin.bind == listener.bind or admin.bind.overlaps(listener.bind):
                self._problems.add((*key, "bind"), f"overlaps the listener {quoted(listener.bind.text)}")
                break
        if admin.bind.family == "unix":
            return
        if not admin.token and not self._problems.touches((*key, "token")):
            hint = 'such as token = "${HEADGATE_TOKEN}", or use bind = "unix:/run/headgate.sock"'
            self._problems.add((*key, "token"), f"is missing: {quoted(admin.bind.text)} is on TCP", hint)
        if not admin.bind.is_loopback and not admin.allow_remote:
            message = f"{quoted(admin.bind.text)} can be reached by other machines, and the token would go in plain"
            self._problems.add((*key, "bind"), message, 'use "127.0.0.1:…", or set allow_remote = true')

    # --- pools -------------------------------------------------------------------------------------------------------

    def _pools(self) -> None:
        pools = self._config.pools
        if not pools and not self._problems.touches(("pools",)):
            hint = 'add [pools.web] with backends = ["http://127.0.0.1:9001"]'
            self._problems.add(("pools",), "no pool: there is nothing to balance over", hint)
        for name, pool in pools.items():
            key: Key = ("pools", name)
            # Pool names become metric labels, parts of cookie names and of URLs in the admin API.
            if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name) is None:
                message = f"{quoted(name)} cannot name a pool"
                self._problems.add(key, message, "letters, digits, _, - and ., at most 64, the first a letter or digit")
            self._backends(pool, key)
            self._strategy(pool.strategy, (*key, "strategy"))
            self._sticky(pool, (*key, "sticky"))
            self._health(pool.health, (*key, "health"))
            self._breaker(pool, (*key, "breaker"))
            self._fallback(name, pool, (*key, "fallback"))
            self._queue(pool, key)

    def _backends(self, pool: Pool, key: Key) -> None:
        urls: dict[tuple[str, int, bool], str] = {}
        names: set[str] = set()
        for backend in pool.backends:
            where = self._where(backend)
            if (first := urls.get(backend.url.identity)) is not None:
                same = "" if first == backend.url.text else f" (as {quoted(first)})"
                self._problems.add(where, f"{quoted(backend.url.text)} is in this pool already{same}")
            elif backend.name in names:
                self._problems.add((*where, "name"), f"{quoted(backend.name)} names two backends of this pool")
            urls.setdefault(backend.url.identity, backend.url.text)
            names.add(backend.name)

    def _strategy(self, strategy: Strategy, key: Key) -> None:
        if self._problems.touches(key):
            return
        if strategy.name in registry.BUILT_IN:
            for option, text in options.mistakes(strategy.name, strategy.options):
                self._problems.add((*key, option) if option else key, text)
            return
        if ":" in strategy.name:
            module, _, name = strategy.name.partition(":")
            if not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
                message = f"{quoted(strategy.name)} does not name a class"
                self._problems.add(key, message, 'write it as "package.module:Class"')
            return
        registered = registry.names()
        if strategy.name not in registered:
            hint = did_you_mean(strategy.name, registered) or "one of " + ", ".join(registered)
            self._problems.add(key, f"unknown strategy {quoted(strategy.name)}", hint)

    def _sticky(self, pool: Pool, key: Key) -> None:
        sticky = pool.sticky
        if sticky is None:
            return
        if sticky.secret and len(sticky.secret) < _SECRET_LENGTH:
            message = f"too short to sign with: {len(sticky.secret)} characters, at least {_SECRET_LENGTH}"
            self._problems.add((*key, "secret"), message)
        if sticky.same_site == "none" and not sticky.secure and not self._problems.touches((*key, "secure")):
            self._problems.add((*key, "same_site"), '"none" needs secure = true: browsers refuse the cookie otherwise')

    def _health(self, health: Health, key: Key) -> None:
        if health.timeout > health.interval and not self._problems.touches((*key, "timeout"), (*key, "interval")):
            timeout, interval = format_duration(health.timeout), format_duration(health.interval)
            self._problems.add((*key, "timeout"), f"{timeout} is longer than the interval of {interval}")
        if health.type == "http" or self._problems.touches((*key, "type")):
            return
        for name in HTTP_CHECK_KEYS:
            if self._given((*key, name)) is not None and not self._problems.touches((*key, name)):
                self._problems.add(
                    (*key, name), f'has no effect on a check of type "{health.type}"', 'set type = "http"'
                )

    def _breaker(self, pool: Pool, key: Key) -> None:
        breaker = pool.breaker
        if breaker is None or self._problems.touches((*key, "recovery"), (*key, "recovery_max")):
            return
        if breaker.recovery > breaker.recovery_max:
            recovery, longest = format_duration(breaker.recovery), format_duration(breaker.recovery_max)
            self._problems.add((*key, "recovery"), f"{recovery} is longer than recovery_max, {longest}")

    def _fallback(self, name: str, pool: Pool, key: Key) -> None:
        fallback = pool.fallback
        if fallback is None:
            return
        raw = self._given(key)
        given = set(raw) if isinstance(raw, dict) else {"pool"}
        if fallback.pool:
            if given != {"pool"}:
                self._problems.add(key, "either a pool or a static answer, not both", "leave out pool, or all others")
            self._fallback_pool(name, (*key, "pool") if isinstance(raw, dict) else key)
            return
        if not given & {"status", "body", "file", "pool"}:
            self._problems.add(key, "says nothing", "name a pool, or give a status, body or file")
        if fallback.status in (204, 205, 304):
            self._problems.add((*key, "status"), f"{fallback.status} has no body", "200 and 503 are usual")
        for field in fallback.headers:
            if field.lower() in ("content-type", "date"):
                hint = "use the key content_type" if field.lower() == "content-type" else ""
                self._problems.add((*key, "headers", field), f"{quoted(field)} cannot be set here", hint)
        if fallback.file and fallback.body:
            self._problems.add((*key, "file"), "either a body or a file, not both")
        self._fallback_size(fallback.body, fallback.file, key)

    def _fallback_size(self, body: str, file: str, key: Key) -> None:
        size = len(body.encode())
        if file:
            try:
                with open(file, "rb") as opened:
                    size = len(opened.read(FALLBACK_BODY_LIMIT + 1))
            except OSError as error:
                self._problems.add((*key, "file"), f"cannot read {quoted(file)}: {error.strerror or error}")
                return
        if size > FALLBACK_BODY_LIMIT:
            message = f"larger than {format_size(FALLBACK_BODY_LIMIT)}, which is what an answer may have"
            self._problems.add((*key, "file" if file else "body"), message)

    def _fallback_pool(self, name: str, key: Key) -> None:
        """Does it exist, and does the chain of those that stand in for another end?"""
        pools = self._config.pools
        raw_pools = self._given(("pools",))
        known = [other for other in raw_pools if isinstance(other, str)] if isinstance(raw_pools, dict) else []
        way = [name]
        while True:
            fallback = pools[way[-1]].fallback
            if fallback is None or not fallback.pool:
                return
            if fallback.pool not in pools:
                if len(way) == 1 and fallback.pool not in known:
                    self._problems.add(key, f"unknown pool {quoted(fallback.pool)}", did_you_mean(fallback.pool, known))
                return
            way.append(fallback.pool)
            if fallback.pool in way[:-1]:
                break
        if way[-1] == name:  # else the loop is further on, and said there
            self._problems.add(key, f"leads back to itself: {' -> '.join(way)}")

    def _queue(self, pool: Pool, key: Key) -> None:
        raw = self._given((*key, "queue"))
        if raw is None or raw is False or self._problems.touches((*key, "limits"), (*key, "backends")):
            return
        limited = any(backend.max_requests or backend.max_connections for backend in pool.backends)
        if not (limited or pool.limits.max_requests or pool.limits.adaptive):
            message = "has no effect: nothing in this pool has a limit that a request could wait for"
            self._problems.add((*key, "queue"), message, "set max_requests or max_connections of its backends")

    # --- routes ------------------------------------------------------------------------------------------------------

    def _routes(self) -> None:
        config = self._config
        if not config.routes and len(config.pools) > 1 and not self._problems.touches(("routes",)):
            names = ", ".join(quoted(name) for name in config.pools)
            hint = 'add [[routes]] with pool = "…" and host or path_prefix'
            self._problems.add(("routes",), f"several pools ({names}) and no route says which requests go where", hint)
        raw_pools = self._given(("pools",))
        pools = [name for name in raw_pools if isinstance(name, str)] if isinstance(raw_pools, dict) else []
        binds = {listener.bind.text for listener in config.listeners}
        seen: dict[tuple[str | None, str | None, str, ClientCert | None], Route] = {}
        for route in config.routes:
            key = self._where(route)
            if not key:
                continue  # the one that was made for the only pool
            if route.pool not in pools:
                hint = did_you_mean(route.pool, pools)
                self._problems.add((*key, "pool"), f"unknown pool {quoted(route.pool)}", hint)
            if (
                route.listener is not None
                and route.listener not in binds
                and not self._problems.touches(("listeners",))
            ):
                hint = "one of " + ", ".join(quoted(bind) for bind in sorted(binds)) if binds else ""
                self._problems.add((*key, "listener"), f"no listener is bound to {quoted(route.listener)}", hint)
            match = (route.listener, route.host, route.path_prefix, route.client_cert)
            if self._problems.touches(*((*key, part) for part in ("listener", "host", "path_prefix", "client_cert"))):
                continue
            if match in seen:
                first = self._where(seen[match])[-1]
                self._problems.add(key, f"matches the same requests as routes[{first}]")
            seen.setdefault(match, route)
