"""The table of kinds: whole, without contradictions, and what docs/errors.md says."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import MEANING, TEXT, Kind, Retry, Source, Verdict
from headgate.observe.errors_page import render

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "make it anew: python -m headgate.observe.errors_page > docs/errors.md"
    )


def test_every_kind_has_its_row_its_text_and_a_word_of_its_own() -> None:
    assert set(MEANING) == set(TEXT) == set(Kind)
    assert [int(kind) for kind in Kind] == list(range(len(Kind))), "values index counters"
    assert len({kind.word for kind in Kind}) == len(Kind)
    assert all(TEXT[kind].endswith(".") for kind in Kind)


@pytest.mark.parametrize("kind", Kind)
def test_a_row_agrees_with_itself(kind: Kind) -> None:
    assert kind.meaning is MEANING[kind]
    # Only what a backend did counts for or against one; only that, or what we did to it, is tried at another.
    if kind.source is not Source.UPSTREAM:
        assert kind.verdict in (Verdict.NONE, Verdict.SUCCESS)
        assert kind.retryable is (Retry.IDEMPOTENT if kind is Kind.DRAIN_DEADLINE else Retry.NEVER)
    # Where nothing was sent it was the connection that failed, and the other way round.
    assert (kind.retryable is Retry.ALWAYS) == (kind.verdict is Verdict.CONNECT)
    assert (kind.verdict is Verdict.SUCCESS) == (kind is Kind.OK)
    classes = {Source.NONE: (2,), Source.CLIENT: (4, 5), Source.UPSTREAM: (5,), Source.INTERNAL: (4, 5)}
    assert kind.status // 100 in classes[kind.source]
