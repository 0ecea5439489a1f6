from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.routing.match import Entry, RouteError, Router


def router(*routes: str, listener: str = "") -> Router[str]:
    """Routes written as "host/prefix", each its own target."""
    return Router([entry(route) for route in routes], listener)


def entry(route: str, listener: str = "") -> Entry[str]:
    host, slash, prefix = route.partition("/")
    return Entry(listener, host, slash + prefix, route)


class TestPaths:
    table = router("/", "/api", "/api/v2", "/apix/y")

    @pytest.mark.parametrize(
        ("path", "target"),
        [
            (b"/", "/"),
            (b"/other", "/"),
            (b"/api", "/api"),
            (b"/api/", "/api"),
            (b"/api/x", "/api"),
            (b"/api?x=/api/v2", "/api"),
            (b"/api/v2", "/api/v2"),
            (b"/api/v2/x/y/z", "/api/v2"),
            (b"/api/v22", "/api"),
            (b"/apix", "/"),
            (b"/apix/y", "/apix/y"),
            (b"/apix/z", "/"),
            (b"/x?/api", "/"),
            (b"*", "/"),
            (b"", "/"),
            # Nothing is decoded or tidied up: these are other bytes.
            (b"/%61pi", "/"),
            (b"//api", "/"),
            (b"/./api", "/"),
            (b"/API", "/"),
            (b"/x/../api", "/"),
            (b"/api//v2", "/api"),
            (b"/api;x/v2", "/"),
        ],
    )
    def test_the_longest_prefix_by_whole_segments(self, path: bytes, target: str) -> None:
        assert self.table.match(b"example.org", path) == target

    def test_without_a_route_for_all_there_may_be_none(self) -> None:
        assert router("/api").match(b"", b"/other") is None
        assert router("/api").match(b"", b"*") is None
        assert Router[str]([]).match(b"example.org", b"/") is None

    @pytest.mark.parametrize("prefix", ["/api", "/api/"])
    def test_a_slash_at_the_end_of_a_prefix_means_nothing(self, prefix: str) -> None:
        table = Router([Entry("", "", prefix, "hit")])
        assert [table.match(b"", path) for path in (b"/api", b"/api/", b"/api/x", b"/apix")] == ["hit"] * 3 + [None]

    def test_an_empty_segment_is_a_segment(self) -> None:
        table = router("//api", "/")
        assert table.match(b"", b"//api/x") == "//api"
        assert table.match(b"", b"/api/x") == "/"


class TestHosts:
    table = router("shop.example/", "*.example/", "*.eu.example/", "/", "*.eu.example/api")

    @pytest.mark.parametrize(
        ("host", "target"),
        [
            (b"shop.example", "shop.example/"),
            (b"shop.example.", "shop.example/"),
            (b"www.shop.example", "*.example/"),
            (b"a.b.c.example", "*.example/"),
            (b"eu.example", "*.example/"),
            (b"de.eu.example", "*.eu.example/"),
            (b"a.de.eu.example.", "*.eu.example/"),
            (b"example", "/"),
            (b".example", "/"),
            (b"example.org", "/"),
            (b"notexample", "/"),
            (b"", "/"),
            (b".", "/"),
            (b"[::1]", "/"),
        ],
    )
    def test_exact_then_longest_wildcard_then_any(self, host: bytes, target: str) -> None:
        assert self.table.match(host, b"/x") == target

    def test_the_host_decides_before_the_prefix(self) -> None:
        table = router("shop.example/", "/api")
        assert table.match(b"shop.example", b"/api") == "shop.example/"

    def test_a_host_without_a_fitting_prefix_goes_on_to_less_specific_ones(self) -> None:
        table = router("shop.example/api", "*.example/img", "/")
        assert [table.match(b"shop.example", path) for path in (b"/api/x", b"/img", b"/x")] == [
            "shop.example/api",
            "*.example/img",
            "/",
        ]

    def test_a_host_in_the_configuration_may_be_in_capitals_and_end_in_a_dot(self) -> None:
        assert Router([Entry("", "Shop.Example.", "/", "hit")]).match(b"shop.example", b"/") == "hit"

    def test_an_address_is_a_host(self) -> None:
        table = router("[::1]/", "192.0.2.1/")
        assert table.match(b"[::1]", b"/") == "[::1]/"
        assert table.match(b"192.0.2.1", b"/") == "192.0.2.1/"


class TestListeners:
    routes = (entry("/", ""), entry("/api", "internal"), entry("/", "public"), entry("/img", ""))

    def test_a_listener_has_its_own_routes_and_those_for_any(self) -> None:
        internal, public = Router(self.routes, "internal"), Router(self.routes, "public")
        assert [table.match(b"", b"/api") for table in (internal, public)] == ["/api", "/"]
        assert [table.match(b"", b"/img") for table in (internal, public)] == ["/img", "/img"]

    @pytest.mark.parametrize("order", [1, -1])
    def test_its_own_goes_before_the_same_for_any_and_shadows_it(self, order: int) -> None:
        general, own = Entry("", "", "/", "general"), Entry("public", "", "/", "own")
        table = Router([general, own][::order], "public")
        assert table.match(b"", b"/") == "own"
        assert table.shadowed() == [(general, "the same route for listener 'public' goes before it")]
        assert Router([general, own], "other").shadowed() == []


def test_routes_that_are_there_twice_are_all_told() -> None:
    with pytest.raises(RouteError) as error:
        Router([entry(route) for route in ("/a", "/b", "/a/", "shop.example/a", "SHOP.example/a", "/b")])
    assert error.value.problems == [
        (2, "route */a/ is there already, as route 1"),
        (4, "route SHOP.example/a is there already, as route 4"),
        (5, "route */b is there already, as route 2"),
    ]


def test_a_duplicate_for_another_listener_is_one_all_the_same() -> None:
    with pytest.raises(RouteError, match="as route 1"):
        Router([entry("/a", "x"), entry("/a", "x")], "y")


@pytest.mark.parametrize(
    ("host", "prefix", "text"),
    [
        ("", "api", "begin with a slash"),
        ("", "/a b", "percent-encoded"),
        ("", "/ä", "percent-encoded"),
        ("", "/a?b", "'?'"),
        ("", "/a#b", "'#'"),
        ("*", "/", "leaving host out"),
        ("a.*", "/", "first labels"),
        ("*.*.example", "/", "first labels"),
        ("*a.example", "/", "first labels"),
        ("*.", "/", "first labels"),
        ("shop.example:80", "/", "without the port"),
        ("http://shop", "/", "'/'"),
        ("bücher.example", "/", "xn--"),
    ],
)
def test_routes_that_could_never_match_are_refused(host: str, prefix: str, text: str) -> None:
    with pytest.raises(RouteError) as error:
        Router([Entry("", host, prefix, "x")])
    assert text in str(error.value)


labels = st.sampled_from(["a", "b", "example"])
hosts = st.builds(".".join, st.lists(labels, min_size=1, max_size=4))
patterns = st.one_of(st.just(""), hosts, hosts.map("*.{}".format))
segments = st.lists(st.sampled_from(["a", "ab", "b", ""]), max_size=4)
prefixes = segments.map(lambda parts: "/" + "/".join(parts))


def rank(route: Entry[int], host: str, path: str) -> tuple[int, int, int] | None:
    """The rule in words of its own: how specific a match is, None if it is none."""
    prefix = route.path_prefix.removesuffix("/")
    if not (path == prefix or path.startswith(prefix + "/")):
        return None
    if not route.host:
        return (0, 0, len(prefix))
    if not route.host.startswith("*."):
        return (2, 0, len(prefix)) if host == route.host else None
    return (1, len(route.host), len(prefix)) if host.endswith(route.host[1:]) else None


@settings(deadline=None, max_examples=300)
@given(routes=st.lists(st.tuples(patterns, prefixes), max_size=12), host=hosts, path=prefixes)
def test_it_agrees_with_trying_every_route(routes: list[tuple[str, str]], host: str, path: str) -> None:
    unique = {(pattern, prefix.removesuffix("/")): prefix for pattern, prefix in routes}
    entries = [Entry("", pattern, prefix, i) for i, ((pattern, _), prefix) in enumerate(unique.items())]
    ranked = [(found, route.target) for route in entries if (found := rank(route, host, path)) is not None]
    assert Router(entries).match(host.encode(), path.encode()) == (max(ranked)[1] if ranked else None)


def cost(table: Router[str], host: bytes, path: bytes) -> float:
    def once() -> float:
        start = time.process_time()
        for _ in range(500):
            table.match(host, path)
        return time.process_time() - start

    return min(once() for _ in range(20))


def test_four_thousand_routes_cost_what_one_does() -> None:
    one = router("host7.example/api/7")
    many = router(*[f"host{i % 40}.example/api/{i}" for i in range(4000)])
    assert many.match(b"host7.example", b"/api/7/x") == "host7.example/api/7"
    assert cost(many, b"host7.example", b"/api/7/x") < 3 * cost(one, b"host7.example", b"/api/7/x")


def test_a_path_of_ten_thousand_slashes_and_a_host_of_ten_thousand_dots_cost_little() -> None:
    table = router("/a/b", "*.b.example/", "/")
    plain = cost(table, b"x.b.example", b"/x")
    assert cost(table, b"x" + b"." * 10_000, b"/a" * 10_000) < 50 * plain
