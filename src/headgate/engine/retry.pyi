def pause_s(retry: int, draw: int) -> float:
    """Seconds that the n-th retry of a request waits, by 64 random bits: 0 for the first, then full jitter up to 25 ms
    doubling to 250 ms."""
