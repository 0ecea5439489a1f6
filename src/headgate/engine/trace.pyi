"""W3C Trace Context: the field `traceparent`."""

def read_traceparent(value: bytes) -> tuple[str, str, int] | None:
    """(trace-id, parent-id, flags) of a value, the ids in hexadecimal and of the flags those that go on; None when
    it is not valid."""
