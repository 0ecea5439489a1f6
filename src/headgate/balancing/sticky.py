"""Sticky sessions by cookie: what the cookie holds and how it is found again.

The value is a keyed hash of pool and backend name (HMAC, RFC 2104). So a client learns nothing of what stands behind
the balancer, cannot make up a value that leads to a backend of its choice, and a cookie of one pool means nothing in
another. It does not expire by itself and names no session: whoever copies it reaches the same backend, and that is all
it is for. Since there is one value for each backend, looking one up is one dictionary access and nothing is computed
for a request. The secret must be the same in all workers and survive a restart, or every session would be bound anew.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from hashlib import sha256
from typing import TypeVar

from headgate.balancing.base import Backend

B = TypeVar("B", bound=Backend)

# 128 bits: a guess hits with probability n / 2**128, and the cookie stays short (it comes with every request).
VALUE_LENGTH = 32

# A key shorter than this could be guessed from one cookie by trying keys.
MIN_SECRET_LENGTH = 16

SAME_SITE = ("Strict", "Lax", "None")

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def cookie_value(secret: bytes, pool: str, backend: str) -> bytes:
    """The cookie value of one backend: 32 hexadecimal digits. ValueError if the secret is too short to be one."""
    if len(secret) < MIN_SECRET_LENGTH:
        raise ValueError(f"a sticky secret needs at least {MIN_SECRET_LENGTH} bytes, this one has {len(secret)}")
    # The length in front keeps ("ab", "c") apart from ("a", "bc").
    name = pool.encode()
    message = len(name).to_bytes(4, "big") + name + backend.encode()
    return hmac.new(secret, message, sha256).hexdigest()[:VALUE_LENGTH].encode("ascii")


def set_cookie_line(
    name: bytes, value: bytes, *, secure: bool = False, same_site: str = "Lax", ttl_s: float | None = None
) -> bytes:
    """The complete Set-Cookie field line, CRLF included (RFC 6265 section 4.1; SameSite: its successor draft).

    Path=/ because a session is bound for all of a site. HttpOnly because no script has a use for it. SameSite=Lax,
    which is what browsers assume anyway; None needs `secure`, or browsers drop the cookie. No Max-Age (`ttl_s` None)
    makes a session cookie. ValueError if the name is no token or the attributes contradict each other.
    """
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a cookie: letters, digits and !#$%&'*+-.^_`|~ only")
    if same_site not in SAME_SITE:
        raise ValueError(f"same_site is one of {', '.join(SAME_SITE)}, not {same_site!r}")
    if same_site == "None" and not secure:
        raise ValueError('same_site "None" needs secure = true: browsers drop the cookie otherwise')
    if ttl_s is not None and ttl_s < 1:
        raise ValueError(f"a cookie lives for at least 1 second, not {ttl_s:g}")
    line = b"Set-Cookie: " + name + b"=" + value + b"; Path=/; HttpOnly; SameSite=" + same_site.encode("ascii")
    if secure:
        line += b"; Secure"
    if ttl_s is not None:
        line += b"; Max-Age=%d" % ttl_s
    return line + b"\r\n"


def lookup(secret: bytes, pool: str, backends: Iterable[B]) -> dict[bytes, B]:
    """Cookie value -> backend, for all backends of a pool: one that is down now may be back for the next request."""
    return {cookie_value(secret, pool, backend.name): backend for backend in backends}
