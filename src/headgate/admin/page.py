"""The dashboard's files, as they are in the package, and the page's own stream.

They hold no data, so anybody may have them; what they show comes from `GET /stream`, which asks for the token.
"""

from __future__ import annotations

import functools

from headgate.admin.endpoint import Call, Raw, Stream
from headgate.admin.wire import Refusal

# Scripts and styles from here and nowhere else, none written into the page; no frames, no forms that go anywhere, and
# no strings that become markup (Trusted Types).
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


async def index(call: Call) -> Raw:
    """The shell."""
    return _file("index.html")


async def asset(call: Call) -> Raw:
    """A script, the style sheet, the icon."""
    return _file(call.params["file"])


async def access(call: Call) -> dict[str, bool]:
    """Must whoever asks from there have the token?"""
    return {"token": not call.known}


async def stream(call: Call) -> Stream:
    """What the page shows, as it changes."""
    return Stream(call.feed.read(call.query))


def _file(name: str) -> Raw:
    found = _files().get(name)
    if found is None:
        raise Refusal(404, "not_found", "the dashboard has no such file")
    return Raw(found, content_type=_TYPES[name.rpartition(".")[2]], policy=POLICY)


@functools.cache
def _files() -> dict[str, bytes]:
    """Read once, whole: a name in a request never becomes a path."""
    # Imported here: it brings tempfile and three compressors along, and most balancers have no reader.
    from importlib import resources

    directory = resources.files("headgate.admin") / "dashboard"
    return {one.name: one.read_bytes() for one in directory.iterdir() if one.name.rpartition(".")[2] in _TYPES}
