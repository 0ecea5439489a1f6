"""Finds a strategy: one of our own, one that an installed package offers, or a class in the user's own module."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, cast

from headgate.balancing.base import Context, Options, Strategy

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

GROUP = "headgate.strategies"

# Ours come first, so that no installed package can take a documented name away.
BUILT_IN = {
    "round_robin": "headgate.balancing.round_robin:RoundRobin",
    "weighted_round_robin": "headgate.balancing.weighted_round_robin:WeightedRoundRobin",
    "least_connections": "headgate.balancing.least_connections:LeastConnections",
    "random": "headgate.balancing.random:Random",
    "weighted_random": "headgate.balancing.weighted_random:WeightedRandom",
    "ip_hash": "headgate.balancing.ip_hash:IpHash",
    "p2c": "headgate.balancing.p2c:PowerOfTwoChoices",
    "peak_ewma": "headgate.balancing.peak_ewma:PeakEwma",
    "least_time": "headgate.balancing.least_time:LeastTime",
    "prequal": "headgate.balancing.prequal:Prequal",
    "ring_hash": "headgate.balancing.ring_hash:RingHash",
    "maglev": "headgate.balancing.maglev:Maglev",
    "bounded_hash": "headgate.balancing.bounded_hash:BoundedHash",
    "random_subset": "headgate.balancing.random_subset:RandomSubset",
}

Factory = Callable[..., Any]
"""A class, or any callable, that makes a strategy."""


class StrategyNotFound(ValueError):
    """No strategy answers to this name. The text says what there is, or what went wrong while importing."""


class StrategyInvalid(ValueError):
    """It was found but is no strategy, or does not take the options it was given."""


def entry_points(**wanted: Any) -> EntryPoints:
    """What installed packages offer."""
    # Imported here: with email and zipfile, which it brings along, it takes 1 to 3 MiB of each process, and our own
    # strategies are found without.
    from importlib import metadata

    return cast("EntryPoints", metadata.entry_points(**wanted))


def names() -> list[str]:
    """All names a configuration may use, ours first."""
    return [*BUILT_IN, *sorted(set(entry_points(group=GROUP).names) - set(BUILT_IN))]


def resolve(spec: str, app_dir: str | PathLike[str] | None = None) -> Factory:
    """The factory that `spec` names: a registered name, or "package.module:Class" found from `app_dir`.

    Like uvicorn's --app-dir, `app_dir` is put in front of `sys.path` and stays there: the module may import its
    neighbours later. Raises StrategyNotFound, and StrategyInvalid if what was found cannot be called or has no `update`
    and `pick`.
    """
    if ":" in spec:
        if app_dir is not None and (path := fspath(app_dir)) not in sys.path:
            sys.path.insert(0, path)
        factory = _import(spec, spec)
    elif spec in BUILT_IN:
        factory = _import(spec, BUILT_IN[spec])
    else:
        factory = _import(spec, _entry_point(spec).value)
    if not callable(factory):
        raise StrategyInvalid(f"strategy {spec!r} is a {type(factory).__name__}, not a class")
    if inspect.isclass(factory):
        _require_methods(spec, factory)
    return cast(Factory, factory)


def build(
    spec: str, context: Context, options: Options | None = None, app_dir: str | PathLike[str] | None = None
) -> Strategy:
    """A new strategy. Raises what `resolve` raises, and StrategyInvalid if it cannot be made with these options.

    The signature decides what a class is given: the context if a parameter is named `context` or annotated `Context`,
    and `options` by name. So a class without `__init__` is fine.
    """
    return make(resolve(spec, app_dir), spec, context, options)


def make(factory: Factory, spec: str, context: Context, options: Options | None = None) -> Strategy:
    """A new strategy from a class or callable at hand; `spec` is what errors call it. Raises StrategyInvalid."""
    options = options or {}
    try:
        signature = inspect.signature(factory)
    except ValueError as error:  # some classes written in C have none
        raise StrategyInvalid(f"strategy {spec!r} has no readable signature: {error}") from error
    wanted = _context_parameter(signature)
    positional = wanted is not None and wanted.kind is wanted.POSITIONAL_ONLY
    named = {**options, wanted.name: context} if wanted is not None and not positional else options
    try:
        bound = signature.bind(*([context] if positional else []), **named)
    except TypeError as error:
        raise StrategyInvalid(f"strategy {spec!r}: {error}; {_takes(signature, wanted)}") from None
    try:
        strategy = factory(*bound.args, **bound.kwargs)
    except (TypeError, ValueError) as error:
        raise StrategyInvalid(f"strategy {spec!r} refuses its options: {error}") from error
    _require_methods(spec, strategy)
    return cast(Strategy, strategy)


def _context_parameter(signature: inspect.Signature) -> inspect.Parameter | None:
    for parameter in signature.parameters.values():
        # An annotation is a string where the module postpones their evaluation.
        annotation = getattr(parameter.annotation, "__name__", parameter.annotation)
        if parameter.name == "context" or (isinstance(annotation, str) and annotation.split(".")[-1] == "Context"):
            return parameter
    return None


def _takes(signature: inspect.Signature, context: inspect.Parameter | None) -> str:
    known = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter is not context and parameter.kind is not parameter.VAR_KEYWORD
    ]
    return f"its options are: {', '.join(known)}" if known else "it has no options"


def _require_methods(spec: str, strategy: object) -> None:
    missing = [name for name in ("update", "pick") if not callable(getattr(strategy, name, None))]
    if missing:
        raise StrategyInvalid(f"strategy {spec!r} has no method {' and no method '.join(missing)}")


def _entry_point(name: str) -> EntryPoint:
    for entry_point in entry_points(group=GROUP, name=name):
        return entry_point
    known = names()
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
    raise StrategyNotFound(f'no strategy {name!r}: {hint} (a class of your own is named "package.module:Class")')


def _import(spec: str, target: str) -> object:
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise StrategyNotFound(f'no strategy {spec!r}: a class of your own is named "package.module:Class"')
    try:
        found: object = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise StrategyNotFound(f"strategy {spec!r}: there is no module {error.name!r} on the path") from None
        raise StrategyNotFound(f"strategy {spec!r}: importing {module_name!r} failed: {error}") from error
    except Exception as error:  # whatever a user's module raises while it is imported
        raise StrategyNotFound(
            f"strategy {spec!r}: importing {module_name!r} failed: {type(error).__name__}: {error}"
        ) from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            close = get_close_matches(part, dir(found), n=1)
            hint = f": did you mean {close[0]!r}?" if close else ""
            raise StrategyNotFound(f"strategy {spec!r}: {module_name!r} has no {attribute!r}{hint}") from None
    return found
