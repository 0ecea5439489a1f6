"""Prints docs/errors.md from the table: `python -m headgate.observe.errors_page > docs/errors.md`.

A test holds the page to the table.
"""

from __future__ import annotations

import sys

from headgate.errors import TEXT, Kind, Retry, Source, Verdict

_INTRODUCTION = """\
# Errors

<!-- Made by `python -m headgate.observe.errors_page` from src/headgate/errors.py. Change it there. -->

Whatever can become of a request has one kind, and the kind alone decides what the client is answered, whether another
backend is tried, and what it says about the backend. The same word stands in the access log, in the `reason` of the
balancer's own answers, in the status document (`outcomes`) and in the metrics (label `outcome`).

- **status**: what the client is answered when the balancer has to answer by itself. 499 is only logged: nobody is there
  any more. Once bytes of an answer went out the client sees that broken off instead, never a whole one that is not.
- **tried elsewhere**: *always*: nothing of the request was sent, so any method goes to another backend, uncounted;
  *idempotent*: the backend may have begun, so GET, HEAD, PUT, DELETE, OPTIONS and TRACE only (RFC 9110 section 9.2.2),
  `retry.retries` times; *no*.
- **health**: *connect* counts for the breaker and as one step of the active check's `fall`; *transport* and *answer*
  count for the breaker. A breaker that *answer* opened runs its time, the others close early when a check brings the
  backend back. A dash counts for nothing. An answer of 429 or 503 with Retry-After is a request for less: the
  backend gets a smaller share for that time, and its breaker stays closed.

| word | caused by | status | tried elsewhere | health | |
|---|---|---|---|---|---|
"""

_SOURCES = {Source.NONE: "nobody", Source.UPSTREAM: "backend", Source.CLIENT: "client", Source.INTERNAL: "balancer"}
_RETRIES = {Retry.NEVER: "no", Retry.IDEMPOTENT: "idempotent", Retry.ALWAYS: "always"}
_VERDICTS = {
    Verdict.NONE: "-",
    Verdict.SUCCESS: "success",
    Verdict.CONNECT: "connect",
    Verdict.TRANSPORT: "transport",
    Verdict.ANSWER: "answer",
}


def render() -> str:
    """The whole page."""
    return _INTRODUCTION + "".join(_row(kind) for kind in Kind)


def _row(kind: Kind) -> str:
    cells = (
        f"`{kind.word}`",
        _SOURCES[kind.source],
        str(kind.status),
        _RETRIES[kind.retryable],
        _VERDICTS[kind.verdict],
        TEXT[kind],
    )
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    sys.stdout.write(render())
