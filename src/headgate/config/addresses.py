"""Where a listener binds and where a backend is reached: the two kinds of address in a configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

import msgspec

from headgate.config.hosts import split_address, unix_path
from headgate.config.values import Wrong, kind_of, quoted


class Bind(msgspec.Struct, frozen=True):
    """A listener's address.

    ":8080" means every address of the machine, IPv4 and IPv6, by one dual-stack socket (IPV6_V6ONLY off); on a
    machine without IPv6 it means 0.0.0.0. That is what somebody who names no address wants, and what Go, Caddy and
    nghttpx do with the same text. "[::]:8080" means IPv6 only, so that it can stand beside "0.0.0.0:8080".
    """

    text: str
    """The address as it is shown: "127.0.0.1:8080", "[::1]:8080", ":8080", "unix:/run/hg.sock"."""
    family: Literal["dual", "inet", "inet6", "unix"]
    host: str = ""
    """An IP address without brackets; "" for the families dual and unix."""
    port: int = 0
    """0 lets the kernel choose."""
    path: str = ""
    """The socket's path, for the family unix."""

    @classmethod
    def parse(cls, text: str) -> Bind:
        """Reads "127.0.0.1:8080", "[::1]:8080", ":8080", "*:8080", "localhost:8080" or "unix:/path"; raises `Wrong`."""
        if text.startswith("unix:"):
            path = unix_path(text)
            return cls(f"unix:{path}", "unix", path=path)
        if text.isascii() and text.isdigit():
            raise Wrong(f"{quoted(text)} is not an address", f'did you mean ":{text}"?')
        if "://" in text:
            raise Wrong(f"{quoted(text)} is a URL, not an address", 'write it as "127.0.0.1:8080" or ":8080"')
        host, port = split_address(text.removeprefix("*"), None, 0)
        if not host:
            return cls(f":{port}", "dual", port=port)
        if host == "localhost":
            host = "127.0.0.1"
        try:
            version = ip_address(host).version
        except ValueError:
            # Which of a name's addresses to bind would depend on a resolver, at every start anew.
            raise Wrong(f"{quoted(host)} is not an address of this machine", "bind to an IP address") from None
        if version == 6:
            return cls(f"[{host}]:{port}", "inet6", host, port)
        return cls(f"{host}:{port}", "inet", host, port)

    @property
    def is_loopback(self) -> bool:
        """Can it be reached from this machine only?"""
        return self.family == "unix" or (self.family != "dual" and ip_address(self.host).is_loopback)

    def overlaps(self, other: Bind) -> bool:
        """Would the kernel refuse to bind both? Port 0 never collides."""
        if self.family == "unix" or other.family == "unix":
            return self.family == other.family and self.path == other.path
        if self.port != other.port or self.port == 0:
            return False
        if self.family == "dual" or other.family == "dual":
            return True
        return self.family == other.family and (
            self.host == other.host or {"0.0.0.0", "::"} & {self.host, other.host} != set()
        )


class BackendUrl(msgspec.Struct, frozen=True):
    """Where a backend is reached: "http://host:port" (port 80 where none is given), "https://host:port" (443) or
    "unix:/run/app.sock"."""

    text: str
    """The URL as it is shown in the status page, logs and metrics: as configured, host in lower case, no final
    slash."""
    host: str = ""
    """A name, or an IP address without brackets; "" for a unix socket."""
    port: int = 0
    path: str = ""
    """The socket's path, for a unix socket."""
    tls: bool = False
    """Is it https?"""

    @classmethod
    def parse(cls, text: str) -> BackendUrl:
        """Reads a backend's URL; raises `Wrong`."""
        if text.startswith("unix:"):
            path = unix_path(text)
            return cls(f"unix:{path}", path=path)
        scheme, separator, rest = text.partition("://")
        if not separator:
            raise Wrong(f"{quoted(text)} is not a URL", f"did you mean {quoted('http://' + text)}?")
        scheme = scheme.lower()
        if scheme not in ("http", "https"):
            hint = 'a backend is "http://host:port", "https://host:port" or "unix:/path"'
            raise Wrong(f"unknown scheme {quoted(scheme)}", hint)
        rest = rest.removesuffix("/")
        if "@" in rest:
            raise Wrong("a backend URL carries no user name or password")
        origin = re.split(r"[/?#]", rest, maxsplit=1)[0]
        if origin != rest:
            hint = f"did you mean {quoted(f'{scheme}://{origin}')}?"
            raise Wrong("a backend URL has no path: requests keep the path the client sent", hint)
        host, port = split_address(rest, 0, 1)
        if not host:
            raise Wrong(f"{quoted(text)} has no host")
        shown = f"[{host}]" if ":" in host else host
        tls = scheme == "https"
        text = f"{scheme}://{shown}" + (f":{port}" if port else "")
        return cls(text, host, port or (443 if tls else 80), tls=tls)

    @property
    def is_unix(self) -> bool:
        return bool(self.path)

    @property
    def needs_resolving(self) -> bool:
        """Is the host a name (and not an IP address or a socket's path)?"""
        if self.path:
            return False
        try:
            ip_address(self.host)
        except ValueError:
            return True
        return False

    @property
    def authority(self) -> str:
        """What the Host field says when requests and checks carry the backend's own name (RFC 9110 section 7.2).

        The default port is left out; a unix socket has no name, so it is "localhost", as curl and nginx send it.
        """
        if self.path:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def identity(self) -> tuple[str, int, bool]:
        """Equal for two URLs that lead to the same place by the same protocol."""
        return (self.path, 0, False) if self.path else (self.host, self.port, self.tls)


@dataclass(frozen=True)
class ReadBind:
    """Reader of a listener's address."""

    expects: str = 'an address such as "127.0.0.1:8080", "[::1]:8080", ":8080" or "unix:/run/hg.sock"'

    def __call__(self, raw: object) -> Bind:
        if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw <= 65535:
            raise Wrong(f"expected {self.expects}, got a number", f'did you mean ":{raw}"?')
        if not isinstance(raw, str):
            raise Wrong(f"expected {self.expects}, got {kind_of(raw)}")
        return Bind.parse(raw)


@dataclass(frozen=True)
class ReadBindText:
    """Reader of a listener's address where it stands for the listener; as canonical text."""

    expects: str = "the bind address of a listener"

    def __call__(self, raw: object) -> str:
        return ReadBind(self.expects)(raw).text


@dataclass(frozen=True)
class ReadUrl:
    """Reader of a backend's URL."""

    expects: str = 'a URL such as "http://127.0.0.1:9001", "https://app.internal" or "unix:/run/app.sock"'

    def __call__(self, raw: object) -> BackendUrl:
        if not isinstance(raw, str):
            raise Wrong(f"expected {self.expects}, got {kind_of(raw)}")
        return BackendUrl.parse(raw)
