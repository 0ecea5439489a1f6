"""The compiled data plane. ARCHITECTURE.md, "The engine as Python sees it", says how the pieces go together."""

from headgate.engine.accesslog import AccessLog
from headgate.engine.core import Engine, pack_address
from headgate.engine.fallback import StaticAnswer
from headgate.engine.hashing import hash64
from headgate.engine.http1 import ResponseHead, parse_response_head
from headgate.engine.model import Backend, Listener, Pool, Route
from headgate.engine.outcome import Outcome
from headgate.engine.request import Request
from headgate.engine.stats import Segment

__all__ = [
    "AccessLog",
    "Backend",
    "Engine",
    "Listener",
    "Outcome",
    "Pool",
    "Request",
    "ResponseHead",
    "Route",
    "Segment",
    "StaticAnswer",
    "hash64",
    "pack_address",
    "parse_response_head",
]
