"""Who may ask. Pure: a request's fields and what the kernel says of its sender go in, a `Refusal` comes out, or not.

- On a unix socket the kernel says who is there (SO_PEERCRED): root and the user we run as need no token. Others, whom a
  wider file mode let in, need it, and are refused while none is configured.
- On TCP everybody needs the token, for everything but `/livez` and `/readyz`.
- A browser on this machine is no operator: pages of the world can make it send requests here. So whatever carries an
  `Origin` of somebody else is refused, and a `Host` that is a name nobody configured as well (DNS rebinding).
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address

from headgate.admin.wire import Refusal
from headgate.config.hosts import split_address
from headgate.config.schema import Admin
from headgate.config.values import Wrong
from headgate.engine.request_head import RequestHead


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is connected. uid: the user at the other end of a unix socket; None on TCP."""

    uid: int | None = None

    @property
    def local(self) -> bool:
        """Over a unix socket."""
        return self.uid is not None


class Access:
    """The rules with one configuration. own_uid: the user this process runs as."""

    def __init__(self, config: Admin, own_uid: int | None = None) -> None:
        self._token = _digest(config.token.encode()) if config.token else None
        self._hosts = frozenset(_name(host) for host in config.hosts) | {"localhost"}
        self._trusted = {0, os.geteuid() if own_uid is None else own_uid}

    def check(self, peer: Peer, head: RequestHead, *, open_to_all: bool) -> None:
        """Raises Refusal (401, 403, 421) for a request that must not be answered."""
        if not peer.local and not open_to_all:
            # Probes of the open endpoints come with whatever name their sender knows this machine by.
            _check_host(head, self._hosts)
        _check_origin(head, open_to_all=open_to_all)
        if not open_to_all:
            self._authenticate(peer, head)

    def known(self, peer: Peer) -> bool:
        """Does the kernel's word suffice?"""
        return peer.uid in self._trusted and peer.local

    def _authenticate(self, peer: Peer, head: RequestHead) -> None:
        if self.known(peer):
            return
        challenge = (("WWW-Authenticate", 'Bearer realm="headgate"'),)
        if self._token is None:
            raise Refusal(403, "forbidden", f"user {peer.uid} may not ask here, and no token is configured")
        given = head.values(b"authorization")
        if not given:
            raise Refusal(401, "token_missing", "send Authorization: Bearer TOKEN", headers=challenge)
        scheme, _, token = given[0].partition(b" ")
        # Digests: equal in length whatever was sent, so that the comparison's time tells nothing (not the length, too).
        right = hmac.compare_digest(_digest(token.strip(b" ")), self._token)
        if len(given) != 1 or scheme.lower() != b"bearer" or not right:
            raise Refusal(401, "token_wrong", "this is not the token", headers=challenge)


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _name(authority: str) -> str:
    """The host of an authority, without port and brackets; raises Wrong."""
    return split_address(authority, 0, 0)[0]


def _check_host(head: RequestHead, names: Collection[str]) -> None:
    text = head.authority.decode("latin-1")
    try:
        host = _name(text)
    except Wrong:
        host = ""
    if host in names:
        return
    try:
        ip_address(host)  # an address cannot be made to mean another machine
    except ValueError:
        hint = 'ask by address or as "localhost", or add the name to admin.hosts'
        raise Refusal(421, "misdirected", f"this is not {text!r}: {hint}") from None


def _check_origin(head: RequestHead, *, open_to_all: bool) -> None:
    """Requests that a page of another origin made a browser send (RFC 6454; Fetch Metadata)."""
    own = {b"http://" + head.authority.lower(), b"https://" + head.authority.lower()}
    for origin in head.values(b"origin"):
        if not head.authority or origin.lower() not in own:
            raise Refusal(403, "cross_origin", "requests from pages of another origin are not answered")
    if (
        open_to_all
        and head.values(b"sec-fetch-mode") == [b"navigate"]
        and head.values(b"sec-fetch-dest") == [b"document"]
    ):
        return  # somebody followed a link to the dashboard: its shell holds nothing, and cannot be framed
    for site in head.values(b"sec-fetch-site"):
        if site not in (b"same-origin", b"none"):
            raise Refusal(403, "cross_origin", "requests from pages of another site are not answered")
