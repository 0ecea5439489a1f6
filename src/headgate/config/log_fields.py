"""The fields that a line of the access log may have."""

from __future__ import annotations

FIELDS = {
    "time": "When the request's head was complete, in UTC.",
    "listener": "The `bind` of the listener, as configured.",
    "client": "The client's address, behind trusted proxies too.",
    "method": "As the client sent it.",
    "path": "The request's target with its query, as the client sent it.",
    "host": "The authority that was asked for.",
    "protocol": "`HTTP/1.1` or `HTTP/1.0`.",
    "scheme": "`https` on a connection with TLS, else `http`.",
    "status": "Of the answer; 499 for a client that left before it had one.",
    "bytes": "Body bytes to the client.",
    "bytes_received": "Body bytes from the client.",
    "route": "The route by what it matches: `shop.example/api`, `*/`.",
    "pool": "The pool that served it.",
    "backend": "The URL of the last backend that was tried.",
    "attempts": "How many attempts were begun.",
    "failed_attempts": "Those that failed, the first six, each with its backend's URL and its error: a list in JSON, "
    "`URL:error,URL:error` in text.",
    "first_byte_s": "Seconds to the first byte of the answer.",
    "total_s": "Seconds in all.",
    "queued_s": "Seconds in the pool's queue; unknown where it did not wait.",
    "request_id": "As the backend saw it (X-Request-Id).",
    "trace_id": "Of the distributed trace it is part of, where `[tracing]` is on.",
    "error": "What went wrong, in the words of [errors](errors.md); and what else there is to say, after a comma: a "
    "retry that was not made (`retry_budget`, `replay_cap`, `no_time_left`), `hedged`, `fallback`.",
    "user_agent": "What the client calls itself.",
    "referer": "Where it says it comes from.",
}
"""Their names and what they mean. Besides them there is `header:NAME`."""

HEADER = "header:"
MOST = 40
"""Of all fields ..."""
MOST_HEADERS = 16
"""... and of header fields, `user_agent` and `referer` among them."""
