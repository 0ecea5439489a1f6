"""The short form: one pool from few words, for `headgate proxy` and for programs that want no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headgate.config.values import Wrong, parse_duration

POOL = "web"
"""The name of the only pool."""


def simple_tree(
    to: Sequence[str | Mapping[str, Any]],
    *,
    listen: str | Sequence[str] = "127.0.0.1:8080",
    strategy: str | Mapping[str, Any] | None = None,
    sticky: str | Mapping[str, Any] | None = None,
    health_type: str | None = None,
    health_path: str | None = None,
    health_interval: str | float | None = None,
    health_timeout: str | float | None = None,
    timeout: str | float | None = None,
    retries: int | None = None,
    workers: int | str | None = None,
    access_log: bool | str = True,
    status_path: str | None = "/lb/status",
) -> dict[str, Any]:
    """The raw tree (as a configuration file would hold it) of one pool behind one or more listeners.

    `to` has backends as in `pools.X.backends`, or as "URL,weight=N,name=S". `timeout` is how long a backend may take
    to begin its answer (it shortens the connect timeout too, where it is below that). `access_log` is a bool or a
    format. What is None keeps the default of the schema. Nothing is checked here; `validate` does that.
    """
    timeouts: dict[str, Any] = {}
    if timeout is not None:
        timeouts["first_byte"] = timeout
        if _below_connect(timeout):
            timeouts["connect"] = timeout
    pool = _present(
        backends=[backend(entry) for entry in to],
        strategy=strategy,
        sticky=sticky,
        health=_present(type=health_type, path=health_path, interval=health_interval, timeout=health_timeout) or None,
        timeouts=timeouts or None,
        retry=None if retries is None else {"retries": retries},
    )
    binds = [listen] if isinstance(listen, str) else listen
    log = access_log if isinstance(access_log, str) else ("text" if access_log else "off")
    return _present(
        workers=workers,
        access_log={"format": log},
        listeners=[_present(bind=bind, status_path=status_path) for bind in binds],
        pools={POOL: pool},
    )


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _below_connect(timeout: str | float) -> bool:
    from headgate.config.schema import PoolTimeouts

    try:
        seconds = parse_duration(timeout) if isinstance(timeout, str) else float(timeout)
    except Wrong:
        return False  # "off", or a mistake that is reported where it is read
    return 0 < seconds < PoolTimeouts().connect


def backend(entry: str | Mapping[str, Any]) -> Any:
    """A raw backend from "URL,weight=2,name=a"; the values of its options are as text, whole numbers as int."""
    if not isinstance(entry, str):
        return dict(entry)
    url, *options = entry.split(",")
    if not options:
        return url
    table: dict[str, Any] = {"url": url}
    for option in options:
        name, _, value = option.partition("=")
        number = value.removeprefix("-")
        table[name.strip()] = int(value) if number.isascii() and number.isdigit() and len(number) < 10 else value
    return table
