"""The last decisions of all workers, in shared memory."""

from typing import Any

class Decisions:
    """Two rings for each worker: what went wrong, and samples. Written by engines (`Engine.decisions`), read by all.

    What is read are dicts: "worker", "time_ns" (since 1970), "id", "method", "host", "path", "client", "listener",
    "route", "pool", "kind" and "notes" (numbers), "status", "attempts_made", "attempts" (dicts of "backend", "kind",
    "status", "started_ms", "first_byte_ms", "ms"), "failed", "sampled", "sticky", "queued_ms", "first_byte_ms",
    "total_ms", "total_ns", "trace_id", "span_id", "parent_id" (hexadecimal) and "span". Texts are cut.
    """

    @property
    def fd(self) -> int:
        """The memfd, to be inherited."""
    @property
    def workers(self) -> int:
        """There are rings for so many."""
    @staticmethod
    def create(workers: int) -> Decisions:
        """New, empty ones. Memory that is not used is not allocated. Raises OSError."""
    @staticmethod
    def open(fd: int) -> Decisions:
        """Those in this descriptor, which is ours from then on. Raises ValueError where they are of another version."""
    def close(self) -> None:
        """Unmap and close; not while an engine writes here."""
    def latest(
        self,
        limit: int,
        *,
        id: bytes | None = None,
        failed: bool = False,
        backend: bytes | None = None,
        traced: bool = False,
    ) -> list[dict[str, Any]]:
        """The newest ones first, those that fit only. A record that is being written is passed over."""
    def follow(self, places: dict[tuple[int, int], int]) -> list[dict[str, Any]]:
        """The traced ones since the last call with the same `places` (an empty dict at first), which are noted there;
        what was overwritten meanwhile is lost."""
