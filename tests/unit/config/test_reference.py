"""docs/configuration.md is what the schema says."""

from __future__ import annotations

from pathlib import Path

from headgate.config.reference import _field_docs, render
from headgate.config.schema import Struct

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "make it anew: python -m headgate.config.reference > docs/configuration.md"
    )


def test_every_key_and_default_has_its_reason() -> None:
    for cls in Struct.__subclasses__():
        assert cls.__doc__
        assert [name for name, text in _field_docs(cls).items() if not text and name in cls.__struct_fields__] == []
