"""What every table of the schema is made of."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from headgate.config.values import Duration

FALSE_IS_NONE = "false turns it off"
"""Marks, in an annotation, that `false` is allowed and means None."""

Seconds = Annotated[float, Duration()]
SecondsOrOff = Annotated[float, Duration(off=True)]


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every table. `expand`, where a table has it, turns shorthands into a raw table."""

    EXPECTS: ClassVar[str] = "a table"
    """Completes "expected …"."""
