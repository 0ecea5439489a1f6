def parse_retry_after(value: bytes, wall_s: int) -> float | None:
    """Seconds that a Retry-After field asks for at `wall_s` (seconds since 1970); 0 for a date that has passed, at most
    1e9, None when it is neither a number of seconds nor an HTTP-date (RFC 9110 sections 10.2.3 and 5.6.7)."""
