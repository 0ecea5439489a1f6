from collections.abc import Sequence
from typing import Final, Unpack

from headgate.engine.logline import LogFields

FIELDS: Final[frozenset[str]]
"""The fields' names; headgate.config.log_fields says what they mean."""

class LogPlan:
    """What a line of the access log has in it: for `format` ("text", "json", "common", "combined"), and the names of
    fields (FIELDS, "header:NAME") where the format leaves a choice.

    ValueError for another format or name, and for more than 40 fields or 16 headers.
    """

    def __init__(self, format: str, names: Sequence[str] = ()) -> None: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def header_names(self) -> list[bytes]:
        """The header fields it looks up, in lower case."""

def log_line(format: str, names: Sequence[str] = (), **fields: Unpack[LogFields]) -> bytes:
    """The line, newline included, that the access log would write for these fields.

    `format` and `names` as for LogPlan, else ValueError; TypeError for a field there is not.
    """
