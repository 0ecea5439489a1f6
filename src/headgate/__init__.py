"""Headgate: an HTTP load balancer that installs with pip and is programmed in Python.

    from headgate import LoadBalancer

    async with LoadBalancer(to=["http://127.0.0.1:9001", "http://127.0.0.1:9002"]) as balancer:
        ...

Everything a program needs is here; docs/python-api.md tells the story. The parts that need the compiled engine are
imported when they are first used, so that reading a configuration works without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "BackendView",
    "CannotBind",
    "CannotStart",
    "Config",
    "ConfigError",
    "Context",
    "LoadBalancer",
    "NotRunning",
    "Outcome",
    "PoolView",
    "Request",
    "Strategy",
    "__version__",
    "load_config",
]

if TYPE_CHECKING:
    from headgate.api import BackendView, CannotStart, LoadBalancer, NotRunning, PoolView
    from headgate.balancing.base import Backend, Context, Outcome, Request, Strategy
    from headgate.config.load import load as load_config
    from headgate.config.problems import ConfigError
    from headgate.config.schema import Config
    from headgate.runtime.sockets import CannotBind

_HOME = {
    "Backend": "headgate.balancing.base",
    "BackendView": "headgate.api",
    "CannotBind": "headgate.runtime.sockets",
    "CannotStart": "headgate.api",
    "Config": "headgate.config.schema",
    "ConfigError": "headgate.config.problems",
    "Context": "headgate.balancing.base",
    "LoadBalancer": "headgate.api",
    "NotRunning": "headgate.api",
    "Outcome": "headgate.balancing.base",
    "PoolView": "headgate.api",
    "Request": "headgate.balancing.base",
    "Strategy": "headgate.balancing.base",
    "load_config": "headgate.config.load",
}


def __getattr__(name: str) -> Any:
    """PEP 562: names are looked up where they live on first use."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), "load" if name == "load_config" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
