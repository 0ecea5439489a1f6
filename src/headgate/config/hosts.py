"""Hosts, ports and networks: reading the text of single addresses, and the readers (see `values.py`) made of it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from headgate.config.values import Wrong, quoted, string


def _host(text: str) -> str:
    """A host name or IPv4 address in lower case; raises `Wrong`. Underscores are let through: containers use them."""
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if re.fullmatch(r"[0-9]+", labels[-1]):  # then it can only be an IPv4 address (as in the WHATWG URL standard)
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise Wrong(f"{quoted(text)} is not an IPv4 address") from None
    if len(name) > 253 or not all(re.fullmatch(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", label) for label in labels):
        raise Wrong(f"{quoted(text)} is not a host name or an IP address")
    return name


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise Wrong(f"{quoted(text)} is not an IPv6 address") from None


def _port(text: str, lowest: int) -> int:
    if re.fullmatch(r"[0-9]{1,5}", text) is None or not lowest <= int(text) <= 65535:
        raise Wrong(f"{quoted(text)} is not a port", f"a number from {lowest} to 65535")
    return int(text)


def split_address(text: str, default_port: int | None, lowest_port: int) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port". An IPv6 host comes without its brackets; "" stays "". Raises
    `Wrong`."""
    bracketed = re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", text)
    if bracketed is not None:
        host, port = _ipv6(bracketed[1]), bracketed[2]
    elif text.count(":") > 1:
        raise Wrong(f"{quoted(text)} is not an address", 'an IPv6 address stands in brackets: "[::1]:8080"')
    else:
        name, colon, rest = text.partition(":")
        host, port = (_host(name) if name else ""), (rest if colon else None)
    if port is None:
        if default_port is None:
            raise Wrong(f"{quoted(text)} has no port")
        return host, default_port
    return host, _port(port, lowest_port)


# sun_path holds 108 bytes with its final NUL (unix(7)).
_SUN_PATH = 107


def unix_path(text: str) -> str:
    """The absolute path in "unix:/run/app.sock" (or "unix:///run/app.sock"); raises `Wrong`."""
    path = text.removeprefix("unix:")
    if path.startswith("//"):
        path = "/" + path.lstrip("/")
    if not path.startswith("/"):
        raise Wrong(f"{quoted(text)} is not an absolute path", 'write it as "unix:/run/app.sock"')
    if not path.isprintable() or len(path.encode("utf-8", "surrogateescape")) > _SUN_PATH:
        raise Wrong(f"{quoted(text)} cannot name a socket: at most {_SUN_PATH} printable bytes")
    return path


@dataclass(frozen=True)
class Network:
    """An address or network ("10.0.0.0/8", "::1"), or "unix" for peers on a unix socket; as canonical text."""

    expects: str = 'a network such as "10.0.0.0/8" or "::1"'

    def __call__(self, raw: object) -> str:
        text = string(raw, self.expects)
        if text == "unix":
            return text
        try:
            return _network_text(ipaddress.ip_network(text))
        except ValueError:
            pass
        try:
            hint = f'did you mean "{_network_text(ipaddress.ip_network(text, strict=False))}"?'
        except ValueError:
            raise Wrong(f"{quoted(text)} is not a network", 'write it as "10.0.0.0/8" or "::1"') from None
        raise Wrong(f"{quoted(text)} has bits set beyond its prefix", hint)


def _network_text(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    whole = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if whole else str(network)


@dataclass(frozen=True)
class HostPattern:
    """What a route's host may be: an exact name or address, or "*.example" for every name below it; lower case."""

    expects: str = 'a host name such as "shop.example" or "*.example"'

    def __call__(self, raw: object) -> str:
        text = string(raw, self.expects)
        if text.startswith("["):
            return f"[{_ipv6(text[1:].removesuffix(']'))}]"
        if ":" in text:
            raise Wrong(f"{quoted(text)} has a port", "routes match the host only; use the key listener for a port")
        star = text.startswith("*.")
        name = text[2:] if star else text
        if "*" in name:
            raise Wrong(f"{quoted(text)}: a star may only stand for the first labels", 'write it as "*.example"')
        return ("*." if star else "") + _host(name)


@dataclass(frozen=True)
class Authority:
    """A value for the Host field: a name or address, with a port if need be."""

    expects: str = "a host name"

    def __call__(self, raw: object) -> str:
        text = string(raw, self.expects)
        host, port = split_address(text, 0, 1)
        if not host:
            raise Wrong(f"{quoted(text)} has no host")
        shown = f"[{host}]" if ":" in host else host
        return f"{shown}:{port}" if port else shown


@dataclass(frozen=True)
class ServerName:
    """A host name or IP address without a port, as certificates name servers."""

    expects: str = "a host name"

    def __call__(self, raw: object) -> str:
        text = string(raw, self.expects)
        host, port = split_address(text, 0, 1)
        if not host:
            raise Wrong("must not be empty")
        if port:
            raise Wrong(f"{quoted(text)} has a port", f"did you mean {quoted(host)}?")
        return host
