"""The routing table: host and path to a target, in time that does not depend on the number of routes.

Most specific wins, whatever the order in the configuration: an exact host before `*.example`, a longer wildcard before
a shorter one, any host named before none; then the longest path prefix. A route matches if both its host and its prefix
do, so a request for a host that is named, but under no prefix of it, goes on to the routes of less specific hosts.

Prefixes are compared by whole segments and on exactly the bytes that are forwarded: nothing is decoded, no dot segment
and no double slash removed. Whatever a backend makes of "/a/../b", the balancer would have to guess; so it never does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Entry(NamedTuple, Generic[T]):
    """One route. Empty `listener` or `host` = any; `path_prefix` "/" or "" = any path; its last slash means nothing."""

    listener: str
    host: str
    path_prefix: str
    target: T


class RouteError(ValueError):
    """Routes that cannot be, each told in `problems` as (index of the entry, what is wrong)."""

    def __init__(self, problems: list[tuple[int, str]]) -> None:
        super().__init__("; ".join(text for _, text in problems))
        self.problems = problems


class _Node(Generic[T]):
    """A path prefix that ends here, and those that go on, by their next segment."""

    __slots__ = ("children", "index", "target")

    def __init__(self) -> None:
        self.children: dict[bytes, _Node[T]] = {}
        self.target: T | None = None
        self.index = -1  # of the entry; -1 = no route ends here


class _Paths(Generic[T]):
    """The prefixes of one host."""

    __slots__ = ("_depth", "_root")

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._depth = 0  # segments of the longest prefix

    def node(self, segments: Sequence[str]) -> _Node[T]:
        """The node of a prefix, made if need be."""
        self._depth = max(self._depth, len(segments))
        node = self._root
        for segment in segments:
            node = node.children.setdefault(segment.encode("ascii"), _Node())
        return node

    def find(self, path: bytes) -> _Node[T] | None:
        node = self._root
        best = node if node.index >= 0 else None
        if not self._depth or path[:1] != b"/":  # "*" of OPTIONS: only a route for any path
            return best
        # What lies deeper than any prefix stays in one piece, so a path of ten thousand slashes costs no more.
        for segment in path[1:].split(b"/", self._depth)[: self._depth]:
            child = node.children.get(segment)
            if child is None:
                return best
            node = child
            if node.index >= 0:
                best = node
        return best


class Router(Generic[T]):
    """The table of one listener. Immutable: another configuration makes another router."""

    def __init__(self, routes: Iterable[Entry[T]], listener: str = "") -> None:
        """Takes the entries for `listener` and those for any. An entry that names the listener goes before one that is
        the same but for that. Raises RouteError for routes that are malformed, or the same twice."""
        self._exact: dict[bytes, _Paths[T]] = {}
        self._wildcard: dict[bytes, _Paths[T]] = {}  # by suffix, without "*."
        self._any: _Paths[T] = _Paths()
        self._labels = 0  # of the longest wildcard suffix
        self._entries = list(routes)
        self._shadowed: list[tuple[Entry[T], str]] = []
        problems: list[tuple[int, str]] = []
        first: dict[tuple[str, str, tuple[str, ...]], int] = {}
        for index, entry in enumerate(self._entries):
            if wrong := _wrong(entry):
                problems.append((index, wrong))
                continue
            key = (entry.listener, _host(entry), _segments(entry))
            if first.setdefault(key, index) != index:
                problems.append((index, f"{_name(entry)} is there already, as route {first[key] + 1}"))
            elif entry.listener in ("", listener):
                self._add(index, entry)
        if problems:
            raise RouteError(problems)

    def match(self, host: bytes, path: bytes) -> T | None:
        """The target, or None. `host` is in lower case, without port; `path` is what is forwarded, query or not."""
        end = path.find(b"?")
        if end >= 0:
            path = path[:end]
        if host[-1:] == b".":  # the root of the DNS, written out
            host = host[:-1]
        if (paths := self._exact.get(host)) is not None and (node := paths.find(path)) is not None:
            return node.target
        if self._wildcard:
            for paths in self._wildcards(host):
                if (node := paths.find(path)) is not None:
                    return node.target
        return node.target if (node := self._any.find(path)) is not None else None

    def shadowed(self) -> list[tuple[Entry[T], str]]:
        """Routes that can never match on this listener, each with the reason."""
        return list(self._shadowed)

    def _wildcards(self, host: bytes) -> list[_Paths[T]]:
        """Of all wildcards that fit, the longest suffix first. At least one label must stand for the star."""
        found: list[_Paths[T]] = []
        end = len(host)
        for _ in range(self._labels):
            end = host.rfind(b".", 0, end)
            if end <= 0:
                break
            if (paths := self._wildcard.get(host[end + 1 :])) is not None:
                found.append(paths)
        found.reverse()
        return found

    def _add(self, index: int, entry: Entry[T]) -> None:
        host = _host(entry).encode("ascii")
        if not host:
            paths = self._any
        elif host.startswith(b"*."):
            suffix = host[2:]
            self._labels = max(self._labels, suffix.count(b".") + 1)
            paths = self._wildcard.setdefault(suffix, _Paths())
        else:
            paths = self._exact.setdefault(host, _Paths())
        node = paths.node(_segments(entry))
        if node.index >= 0:  # one of the two names this listener, the other none
            other = self._entries[node.index]
            named, general = (entry, other) if entry.listener else (other, entry)
            self._shadowed.append((general, f"the same route for listener {named.listener!r} goes before it"))
            if named is other:
                return
        node.index, node.target = index, entry.target


def place(entry: Entry[T]) -> tuple[str, tuple[str, ...]]:
    """What it matches, of whatever listener: the same for two entries that match the same requests."""
    return _host(entry), _segments(entry)


def _host(entry: Entry[T]) -> str:
    return entry.host.lower().removesuffix(".")


def _segments(entry: Entry[T]) -> tuple[str, ...]:
    segments = entry.path_prefix[1:].split("/")
    return tuple(segments[:-1] if segments[-1] == "" else segments)


def _name(entry: Entry[T]) -> str:
    return f"route {entry.host or '*'}{entry.path_prefix or '/'}"


def _wrong(entry: Entry[T]) -> str | None:
    """Why an entry could never match anything, or None."""
    host, prefix = entry.host, entry.path_prefix
    if prefix and not prefix.startswith("/"):
        return f"path_prefix {prefix!r} must begin with a slash"
    if bad := [c for c in prefix if not "!" <= c <= "~" or c in "?#"]:
        return f"path_prefix {prefix!r} has {bad[0]!r}, which no path holds: write it percent-encoded"
    if host == "*":
        return 'host "*" is written by leaving host out'
    bare = host.removeprefix("*.").removesuffix(".")
    if (host and not bare) or "*" in bare:
        return f'host {host!r}: a star stands only for the first labels, as in "*.example.org"'
    if bad := [c for c in bare if not "!" <= c <= "~" or c in "/?#@"]:
        return f"host {host!r} has {bad[0]!r}, which no host holds (other scripts: the xn-- form)"
    if ":" in bare and not bare.startswith("["):
        return f"host {host!r}: requests are matched without the port"
    return None
