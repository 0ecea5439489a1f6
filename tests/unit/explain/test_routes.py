"""Words for what the router does: the same route, and a true reason for each other one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.config.schema import Route
from headgate.explain.routes import find
from headgate.routing.match import Entry, RouteError, Router

HOSTS = [None, "a.test", "b.a.test", "*.test", "*.a.test", "A.Test."]
PREFIXES = ["/", "/api", "/api/", "/api/v1", "/x"]
LISTENERS = [None, ":1", ":2"]

routes = st.lists(
    st.builds(
        Route,
        pool=st.just("web"),
        host=st.sampled_from(HOSTS),
        path_prefix=st.sampled_from(PREFIXES),
        listener=st.sampled_from(LISTENERS),
    ),
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(
    routes,
    st.sampled_from([":1", ":2", ":3"]),
    st.sampled_from([b"a.test", b"b.a.test", b"c.b.a.test", b"test", b"", b"a.test.", b".test"]),
    st.sampled_from([b"/", b"/api", b"/api/v1/x?y=/x", b"/apix", b"//api", b"/x/", b"*"]),
)
def test_every_route_is_told_of_and_told_right(made: list[Route], listener: str, host: bytes, path: bytes) -> None:
    try:
        entries = [
            Entry(route.listener or "", route.host or "", route.path_prefix, index) for index, route in enumerate(made)
        ]
        taken = Router(entries, listener).match(host, path)
    except RouteError:
        return
    said = find(made, listener, host, path)
    assert said.taken == taken
    assert (said.route is None) == (taken is None)
    numbers = [row.number for row in (*said.shadowed, *said.missed)] + ([said.route.number] if said.route else [])
    assert sorted(numbers) == list(range(1, len(made) + 1))
    # Each one that is said to match as well would be taken if the others were not there, and no other would.
    for row in said.shadowed:
        assert Router([entries[row.number - 1]], listener).match(host, path) is not None
    for row in said.missed:
        assert Router([entries[row.number - 1]], listener).match(host, path) is None


def test_reasons() -> None:
    made = [
        Route(pool="all"),
        Route(pool="api", path_prefix="/api"),
        Route(pool="shop", host="shop.test"),
        Route(pool="wild", host="*.test"),
        Route(pool="here", host="shop.test", listener=":1"),
        Route(pool="there", host="shop.test", path_prefix="/api", listener=":2"),
    ]
    said = find(made, ":1", b"shop.test", b"/api/x")
    assert said.route is not None
    assert (said.route.pool, said.route.why) == ("here", "host shop.test, any path, on listener :1")
    assert {row.pool: row.why for row in said.shadowed} == {
        "all": "route 5 names the host (shop.test)",
        "api": "route 5 names the host (shop.test)",
        "shop": "route 5 is the same and names the listener",
        "wild": "the host of route 5, shop.test, is more specific than *.test",
    }
    assert [row.why for row in said.missed] == ["it is for listener :2"]
    nothing = find(made[1:3], ":1", b"x.org", b"/shop")
    assert [row.why for row in nothing.missed] == [
        "its prefix is /api, the request's path /shop",
        "its host is shop.test, the request's x.org",
    ]
