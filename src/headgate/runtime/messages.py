"""What the controller and its workers say to each other: one tagged structure per message.

The set is closed and both sides come from the same installation, so there is no version negotiation. Nothing on the
path of a request waits for a message; a message that is lost with its worker is made good by the next snapshot.
"""

from __future__ import annotations

import msgspec

from headgate.config.schema import Config, Listener
from headgate.explain.answer import Explanation
from headgate.explain.question import Question
from headgate.resilience.cause import Cause
from headgate.runtime.snapshot import Snapshot
from headgate.tls.files import NONE, TlsFiles


class _Message(msgspec.Struct, frozen=True, tag=True):
    pass


# Controller -> worker


class Apply(_Message, frozen=True):
    """Become this. Answered by `Applied`, or by `Rejected` when the worker cannot (it then stays as it was)."""

    snapshot: Snapshot


class Try(_Message, frozen=True):
    """Could you become this? Build all that may fail, throw it away, and answer `Tried`; nothing changes."""

    number: int
    config: Config
    tls: TlsFiles = NONE


class Listen(_Message, frozen=True):
    """Accept on the one descriptor that comes with this message; it is bound and already listening."""

    listener: Listener


class Addresses(_Message, frozen=True):
    """New addresses for one backend (packed `struct sockaddr`, in order); ignored when the slot is unknown."""

    slot: int
    addresses: list[bytes]


class Explain(_Message, frozen=True):
    """Where would this request go, coming to the listener of this `bind`? Answered by `Explained`; nothing changes."""

    number: int
    listener: str
    question: Question


class Leave(_Message, frozen=True):
    """The end is near: say 503 at `ready_path` and `Connection: close` on every answer, and serve on."""


class Drain(_Message, frozen=True):
    """Stop accepting, finish what is in flight, cut off after `deadline_s` seconds, answer `Drained`.

    Connections without a request are closed after `idle_s` seconds; until then each is told on its next answer.

    The one message that also crosses versions: after an upgrade the new supervisor sends it to the old workers. Its
    name and its two fields stay as they are.
    """

    deadline_s: float
    idle_s: float = 0.0


class ReopenLogs(_Message, frozen=True):
    """Open log files anew, by name (they have been rotated)."""


class Stop(_Message, frozen=True):
    """Exit now, without draining."""


# Worker -> controller


class Hello(_Message, frozen=True):
    """The first message of a worker."""

    worker: int
    pid: int


class Applied(_Message, frozen=True):
    """The snapshot of this generation is in force; backends that are not in it get no new
    request. (Their slots are reused only when their gauges of attempts in flight are zero as well.)"""

    generation: int


class Rejected(_Message, frozen=True):
    """The snapshot of this generation could not be applied (a strategy that cannot be built, for example)."""

    generation: int
    text: str


class Tried(_Message, frozen=True):
    """Answer to `Try`: "" when it can, else why not."""

    number: int
    text: str


class Explained(_Message, frozen=True):
    """Answer to `Explain`. `problem`: why there is no explanation; "" when there is one."""

    number: int
    explanation: Explanation | None
    problem: str = ""


class Failed(_Message, frozen=True):
    """An attempt failed in a way that bears on the active check: `kind` is a `errors.Kind` whose verdict is CONNECT.

    Sent at most once per backend and second: every request of a busy worker meets the same refused connection.
    """

    slot: int
    kind: int
    reason: str = ""


class Trip(_Message, frozen=True):
    """The worker's detector opened the breaker; the worker already avoids the backend.

    kind: the `errors.Kind` of the last failure. reason: the text for people ("5 failures in a row: reset"). cause: the
    detector's rule.
    """

    slot: int
    kind: int
    reason: str
    cause: Cause = Cause.CONSECUTIVE_FAILURES


class Probed(_Message, frozen=True):
    """A half-open backend was tried with a request. `kind` tells how it ended."""

    slot: int
    ok: bool
    kind: int


class Penalty(_Message, frozen=True):
    """A backend answered `status` (429 or 503) and asks for less for `for_s` seconds. At most one per second, backend
    and worker."""

    slot: int
    status: int
    for_s: float


class StrategyError(_Message, frozen=True):
    """A user's strategy raised or answered nonsense; the fallback served the request. Once per text and worker."""

    pool: str
    text: str


class Log(_Message, frozen=True):
    """A line for the supervisor's log. `level` is "debug", "info", "warning" or "error"."""

    level: str
    text: str


class Drained(_Message, frozen=True):
    """Nothing is in flight any more, or the deadline has passed; the worker is about to exit.

    cut_off: how many exchanges the deadline ended.
    """

    cut_off: int = 0


ToWorker = Apply | Try | Listen | Addresses | Explain | Leave | Drain | ReopenLogs | Stop
ToController = (
    Hello | Applied | Rejected | Tried | Explained | Failed | Trip | Probed | Penalty | StrategyError | Log | Drained
)
Message = ToWorker | ToController
