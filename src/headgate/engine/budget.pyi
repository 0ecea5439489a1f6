class RetryBudget:
    """The engine's retry budget for tests and simulations; `ratio` None is no limit, times are seconds that never go
    back."""

    def __init__(self, ratio: float | None, reserve: int, workers: int = 1) -> None: ...
    def configure(self, ratio: float | None, reserve: int, workers: int = 1) -> None:
        """Other settings, in place."""
    def deposit(self, now: float) -> None:
        """A request came."""
    def withdraw(self, now: float) -> bool:
        """May one be sent again? Then it is paid for."""
    def refund(self) -> None:
        """The one that was paid for last was not sent."""
    @property
    def tokens(self) -> float:
        """Retries that are paid for, as of the last call."""
