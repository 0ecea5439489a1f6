"""Everything that operators do, at once and under full load; `make soak-ops` takes a minute for it."""

from __future__ import annotations

from . import soak


def test_no_request_fails_whatever_operators_do() -> None:
    print(soak.summary(soak.main(15.0)))
