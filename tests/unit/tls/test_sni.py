"""Which certificate a client gets."""

from __future__ import annotations

import pytest

from headgate.tls import x509
from headgate.tls.sni import Chooser
from tests import pki

ROOT = pki.Authority()


def chooser(*certificates: tuple[str, ...] | str) -> Chooser:
    """Of names each; those that begin with "rsa" are for an RSA key."""
    made = []
    for names in certificates:
        first, *rest = (names,) if isinstance(names, str) else names
        kind = "rsa" if first == "rsa" else "ec"
        made.append(x509.parse(ROOT.issue(*([] if first == "rsa" else [first]), *rest, key=kind).der))
    return Chooser(made)


@pytest.mark.parametrize(
    ("asked", "group"),
    [
        ("a.example", (0,)),
        ("A.Example.", (0,)),
        ("b.example", (1,)),
        ("x.c.example", (2,)),
        ("c.example", (0,)),
        ("x.y.c.example", (0,)),
        ("exact.c.example", (3,)),
        ("other.test", (0,)),
        ("", (0,)),
        (None, (0,)),
        ("\x00", (0,)),
        ("." * 300, (0,)),
    ],
)
def test_exact_then_star_then_the_first(asked: str | None, group: tuple[int, ...]) -> None:
    assert chooser("a.example", "b.example", "*.c.example", "exact.c.example").choose(asked) == group


def test_one_of_each_kind_of_key() -> None:
    both = chooser("a.example", ("rsa", "a.example"), ("rsa", "b.example"), "a.example")
    assert both.default == (0, 1)
    assert both.choose("a.example") == (0, 1)
    assert both.choose("b.example") == (2,)
    assert both.unused == [3]


def test_a_star_fills_in_the_other_kind_of_key() -> None:
    mixed = chooser("first.example", "a.example", ("rsa", "*.example"))
    assert mixed.choose("a.example") == (1, 2)
    assert mixed.choose("b.example") == (2,)
    assert mixed.groups[0] == mixed.default == (0,)


def test_the_first_of_two_for_the_same_name() -> None:
    twice = chooser(("a.example", "b.example"), ("b.example", "c.example"))
    assert twice.choose("b.example") == (0,)
    assert twice.choose("c.example") == (1,)
    assert twice.unused == []
