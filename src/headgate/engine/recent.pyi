class LatencyWatch:
    """Quantiles of recent latency, for tests: values in nanoseconds, times in seconds."""

    def add(self, ns: int) -> None:
        """One more value."""
    def ask(self, q: float, now: float) -> int:
        """The quantile in nanoseconds, at most a seventh too large; -1 while there are fewer than twenty values."""
