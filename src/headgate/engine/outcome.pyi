"""What policy is told when an attempt ends."""

class Outcome:
    """How an attempt ended."""

    @property
    def kind(self) -> int: ...
    @property
    def status(self) -> int: ...
    @property
    def first_byte_s(self) -> float:
        """Seconds to the first response byte; -1.0 when there was none."""
    @property
    def total_s(self) -> float: ...
    @property
    def retry_after_s(self) -> float:
        """Seconds that an answer of 429 or 503 asked for by Retry-After; -1.0 when it did not."""
    @property
    def verdict(self) -> int:
        """A `headgate.errors.Verdict`: what it says about the backend."""
    @property
    def ok(self) -> bool: ...
