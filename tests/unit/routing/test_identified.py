"""Routes by client certificate."""

from __future__ import annotations

import pytest

from headgate.config.tls import ClientCert
from headgate.routing.identified import Guarded, IdentifiedRouter
from headgate.routing.match import Entry, RouteError
from headgate.tls.identity import Identity

ALICE, BOB = Identity("CN=alice", "a" * 64), Identity("CN=bob", "b" * 64)


def route(
    target: str, path: str = "/", host: str = "", listener: str = "", cert: ClientCert | None = None
) -> Guarded[str]:
    return Guarded(Entry(listener, host, path, target), None if cert is None else cert.matches)


ANY = ClientCert()
OF_ALICE = ClientCert(subjects=("CN=alice",))
OF_BOB = ClientCert(fingerprints=("b" * 64,))


def test_a_route_that_asks_goes_first_whatever_the_order() -> None:
    table = IdentifiedRouter(
        [route("all"), route("any", cert=ANY), route("alice", "/a", cert=OF_ALICE), route("bob", "/b", cert=OF_BOB)]
    )
    assert table.match(b"x", b"/", None) == "all"
    assert table.match(b"x", b"/a", None) == "all"
    assert table.match(b"x", b"/", ALICE) == "any"
    assert table.match(b"x", b"/a/x?q", ALICE) == "alice"
    assert table.match(b"x", b"/b", ALICE) == "any"
    assert table.match(b"x", b"/b", BOB) == "bob"
    assert table.match(b"x", b"/a", BOB) == "any"


def test_nothing_for_who_has_no_certificate() -> None:
    table = IdentifiedRouter([route("alice", cert=OF_ALICE)])
    assert table.match(b"x", b"/", None) is None
    assert table.match(b"x", b"/", BOB) is None
    assert table.match(b"x", b"/", ALICE) == "alice"


def test_the_first_of_those_that_match() -> None:
    table = IdentifiedRouter([route("alice", cert=OF_ALICE), route("any", cert=ANY)])
    assert table.match(b"x", b"/", ALICE) == "alice"
    assert table.match(b"x", b"/", BOB) == "any"
    table = IdentifiedRouter([route("any", cert=ANY), route("here", listener=":1", cert=ANY)], ":1")
    assert table.match(b"x", b"/", BOB) == "here"


def test_hosts_and_paths_come_before_certificates() -> None:
    table = IdentifiedRouter([route("any", cert=ANY), route("host", host="a.example"), route("deep", "/deep")])
    assert table.match(b"a.example", b"/", ALICE) == "host"
    assert table.match(b"x", b"/deep", ALICE) == "deep"


def test_other_listeners_routes_are_not_here() -> None:
    table = IdentifiedRouter([route("there", listener=":2", cert=ANY), route("here", listener=":1")], ":1")
    assert table.match(b"x", b"/", ALICE) == "here"


def test_both_conditions_must_hold() -> None:
    both = ClientCert(subjects=("CN=alice",), fingerprints=("b" * 64,))
    table = IdentifiedRouter([route("both", cert=both)])
    assert table.match(b"x", b"/", ALICE) is None
    assert table.match(b"x", b"/", Identity("CN=alice", "b" * 64)) == "both"


def test_what_a_client_remembers_is_of_this_table_only() -> None:
    """A reload makes another table while connections stay."""
    old = IdentifiedRouter([route("old", cert=OF_ALICE), route("rest")])
    new = IdentifiedRouter([route("new", cert=OF_BOB), route("rest")])
    assert old.match(b"x", b"/", ALICE) == "old"
    assert new.match(b"x", b"/", ALICE) == "rest"
    assert new.match(b"x", b"/", BOB) == "new"
    assert old.match(b"x", b"/", ALICE) == "old"


def test_many_kinds_of_clients_make_no_endless_tables() -> None:
    certs = [ClientCert(subjects=(f"CN={number}",)) for number in range(300)]
    table = IdentifiedRouter([route("rest"), *(route(f"{n}", f"/{n}", cert=cert) for n, cert in enumerate(certs))])
    for number in range(300):
        client = Identity(f"CN={number}", "c" * 64)
        assert table.match(b"x", f"/{number}".encode(), client) == f"{number}"
        assert table.match(b"x", f"/{(number + 1) % 300}".encode(), client) == "rest"
    assert len(table._tables) <= 64


def test_mistakes_are_found_in_routes_that_ask_too() -> None:
    with pytest.raises(RouteError):
        IdentifiedRouter([route("x", "no-slash", cert=ANY)])
    with pytest.raises(RouteError):
        IdentifiedRouter([route("x"), route("y")])
