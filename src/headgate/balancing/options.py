"""The options of our own strategies: which there are, and what they may be.

Read in two places: where a configuration is judged, so that a mistake has the name of its key and a way out, and where
a strategy is made, since an embedding program may make one without a configuration. Needs nothing compiled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

Reader = Callable[[object], object]
"""From what was written to what is meant. Raises ValueError with a text that says what would be right."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")

MOST_PLACES = 4096
MOST_TABLE = 5_000_011
"""A prime; Envoy's limit too. 20 MB."""


class Mistake(NamedTuple):
    option: str
    """Its name; "" = what is wrong is missing, or several do not go together."""
    text: str


def seconds(least: float, most: float) -> Reader:
    def read(raw: object) -> float:
        value = None
        if isinstance(raw, (int, float)) and not isinstance(raw, bool):
            value = float(raw)
        elif isinstance(raw, str) and (match := _DURATION.fullmatch(raw.strip())) is not None:
            value = float(match[1]) * _UNITS[match[2]]
        if value is None or not least <= value <= most:
            raise ValueError(f'expected a duration from {least:g} s to {most:g} s like "10s", got {raw!r}')
        return value

    return read


def number(least: float, most: float) -> Reader:
    def read(raw: object) -> float:
        if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not least <= raw <= most:
            raise ValueError(f"expected a number from {least:g} to {most:g}, got {raw!r}")
        return float(raw)

    return read


def whole(least: int, most: int) -> Reader:
    def read(raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int) or not least <= raw <= most:
            raise ValueError(f"expected a whole number from {least} to {most}, got {raw!r}")
        return raw

    return read


def prime(least: int, most: int) -> Reader:
    within = whole(least, most)

    def read(raw: object) -> object:
        value = within(raw)
        assert isinstance(value, int)
        if not _is_prime(value):
            better = next(candidate for candidate in range(value + 1, 2 * value) if _is_prime(candidate))
            raise ValueError(f"expected a prime number, got {value} (the next one is {better})")
        return value

    return read


def _is_prime(value: int) -> bool:
    return value > 1 and all(value % divisor for divisor in range(2, int(value**0.5) + 1))


def one_of(*choices: str) -> Reader:
    def read(raw: object) -> object:
        if raw not in choices:
            quoted = " or ".join(f'"{choice}"' for choice in choices)
            raise ValueError(f"expected {quoted}, got {raw!r}")
        return raw

    return read


def name(what: str) -> Reader:
    """Of a header or a cookie: a token (RFC 9110 section 5.6.2)."""

    def read(raw: object) -> object:
        if not isinstance(raw, str) or _TOKEN.fullmatch(raw) is None:
            raise ValueError(f"expected the name of a {what}, got {raw!r}")
        return raw

    return read


KEYS = ("client", "path", "header:NAME", "cookie:NAME", "query:NAME")


def key(raw: object) -> object:
    """What of a request is hashed, as (kind, name)."""
    if isinstance(raw, str):
        kind, colon, rest = raw.partition(":")
        if kind in ("client", "path") and not colon:
            return kind, ""
        if kind in ("header", "cookie") and _TOKEN.fullmatch(rest):
            return kind, rest
        if kind == "query" and rest and not set(rest) & set("&=#? ") and rest.isascii():
            return kind, rest
    raise ValueError(f"expected one of {', '.join(KEYS)}, got {raw!r}")


# Decay: below 0.1 s nothing would be remembered from one request to the next, above 10 min nothing forgotten.
_LEARNING: Mapping[str, Reader] = {"decay": seconds(0.1, 600.0)}
_KEY: Mapping[str, Reader] = {"key": key, "header": name("header"), "cookie": name("cookie")}

OPTIONS: Mapping[str, Mapping[str, Reader]] = {
    "peak_ewma": _LEARNING,
    "least_time": _LEARNING,
    "prequal": _LEARNING,
    "ring_hash": {**_KEY, "places": whole(1, MOST_PLACES), "compatible": one_of("nginx")},
    "maglev": {**_KEY, "table_size": prime(2, MOST_TABLE)},
    # HAProxy's limits for hash-balance-factor are 101 % and above; with less than that no backend may take its share.
    "bounded_hash": {**_KEY, "places": whole(1, MOST_PLACES), "bound": number(1.01, 100.0)},
    "random_subset": {
        "balancer": whole(0, 99_999),
        "balancers": whole(1, 100_000),
        "size": whole(1, 100_000),
    },
}
"""By strategy. One that is not listed has none."""


def mistakes(strategy: str, given: Mapping[str, object]) -> list[Mistake]:
    """All that is wrong with the options of one of our own strategies."""
    known = OPTIONS.get(strategy, {})
    found = []
    for option, raw in given.items():
        reader = known.get(option)
        if reader is None:
            close = get_close_matches(option, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known) or 'none'}"
            found.append(Mistake(option, f'"{strategy}" has no such option ({hint})'))
            continue
        try:
            reader(raw)
        except ValueError as error:
            found.append(Mistake(option, str(error)))
    if found:
        return found
    keys = [option for option in _KEY if option in given]
    if len(keys) > 1:
        found.append(Mistake(keys[1], f'goes with no other key, and "{keys[0]}" is one: leave one of them'))
    if "compatible" in given and "places" in given:
        found.append(Mistake("places", "nginx has 160 for each unit of weight: leave it out, or leave out compatible"))
    if strategy == "random_subset":
        missing = [option for option in ("balancer", "balancers") if option not in given]
        if missing:
            text = "needs balancer (which one this is, from 0) and balancers (how many there are)"
            found.append(Mistake("", text))
        else:
            balancer, balancers = int(str(given["balancer"])), int(str(given["balancers"]))
            if balancer >= balancers:
                found.append(Mistake("balancer", f"of {balancers} the last one is {balancers - 1}, not {balancer}"))
    return found


def read(strategy: str, **given: object) -> dict[str, Any]:
    """The options with their meaning. Raises ValueError that names each mistake. None stands for not given."""
    options = {option: raw for option, raw in given.items() if raw is not None}
    wrong = mistakes(strategy, options)
    if wrong:
        raise ValueError("; ".join(f"{option}: {text}" if option else text for option, text in wrong))
    return {option: OPTIONS[strategy][option](raw) for option, raw in options.items()}
