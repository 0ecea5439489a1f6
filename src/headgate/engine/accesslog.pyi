from collections.abc import Sequence
from types import TracebackType
from typing import Final, Unpack

from headgate.engine.logline import LogFields

class AccessLog:
    """An access log in `format` "text", "json", "common" or "combined", written to the file `path` or, for "-", to
    stdout.

    fields: names of `logplan.FIELDS` and "header:NAME", for another choice in text and JSON. sample: the share (above
    0, at most 1) of requests that went well which get a line, chosen by their ids.

    fd: a descriptor to write to instead (it is duplicated, the caller keeps its own); `path` is then what reopen()
    opens. buffer_bytes: size of each of the two buffers, at least 4096. A thread does the writing: no method waits for
    a disk or a reader, except close(), for a bounded time.

    ValueError for another format, field, share or size, OSError when the file cannot be opened.
    """

    format: Final[str]
    path: Final[str]

    def __init__(
        self,
        format: str,
        path: str,
        *,
        fields: Sequence[str] = (),
        sample: float = 1.0,
        fd: int | None = None,
        buffer_bytes: int = 262144,
    ) -> None: ...
    def keeps(self, request_id: bytes) -> bool:
        """Does a request with this id that went well get a line?"""

    def write_fields(self, **fields: Unpack[LogFields]) -> None:
        """Logs one line from Python (the engine writes without)."""

    def hand_over(self) -> None:
        """Hands what is buffered to the thread, as the engine does 20 times a second; nothing while it is busy."""

    @property
    def dropped(self) -> int:
        """Lines lost so far: no room while the thread was stuck, disk full, reader gone."""

    @property
    def last_error(self) -> int:
        """The errno of the last failed write; 0 after one that went well."""

    def reopen(self) -> None:
        """Opens `path` anew (its file was renamed) and writes there from the next line on.

        OSError when it cannot be opened: then the old file stays in use. Nothing for "-". ValueError when closed.
        """

    def close(self, timeout_s: float = 1.0) -> None:
        """Writes what is buffered and ends the thread, within about `timeout_s`; what is left then is dropped."""

    def __enter__(self) -> AccessLog: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
