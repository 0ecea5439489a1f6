"""Answers that change something. What they answer with is as it is afterwards, in every worker that could follow."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from headgate.admin import documents as doc
from headgate.admin.endpoint import Call
from headgate.admin.reads import backend_record, backend_view, pool_name
from headgate.admin.wire import Refusal
from headgate.config import diff
from headgate.config.addresses import BackendUrl
from headgate.config.problems import ConfigError
from headgate.config.schema import Config
from headgate.config.validate import validate
from headgate.config.values import Wrong
from headgate.observe.logging import LEVELS
from headgate.runtime import edits
from headgate.runtime.reload import ReloadResult

# A worker answers within a millisecond; one that does not is busy with something larger, or being replaced.
APPLY_S = 2.0
# Importing a module for a strategy may take longer.
REHEARSE_S = 10.0


async def add_backend(call: Call) -> doc.BackendDone:
    """A backend more."""
    pool = pool_name(call)
    new: doc.NewBackend = call.body
    controller = call.host.controller
    try:
        url = BackendUrl.parse(new.url)
        taken = any(
            other.url.identity == url.identity or other.name == (new.name or url.text)
            for other in controller.config.pools[pool].backends
        )
        if taken:
            raise Refusal(409, "conflict", f"pool {pool!r} has a backend of this name or address already")
        record = controller.add_backend(pool, new.url, new.weight, new.name)
    except ValueError as error:
        raise _refused(error) from None
    return await _backend_done(call, pool, record.config.name)


async def remove_backend(call: Call) -> doc.Done:
    """A backend less."""
    record = backend_record(call)
    call.host.controller.remove_backend(record.pool, record.config.name)
    return await _done(call)


async def drain_backend(call: Call) -> doc.BackendDone:
    """No new sessions."""
    record = backend_record(call)
    how: doc.Drain = call.body
    try:
        call.host.controller.drain_backend(record.pool, record.config.name, how.deadline)
    except ValueError as error:
        raise _refused(error) from None
    return await _backend_done(call, record.pool, record.config.name)


async def disable_backend(call: Call) -> doc.BackendDone:
    """No new requests."""
    record = backend_record(call)
    call.host.controller.disable_backend(record.pool, record.config.name)
    return await _backend_done(call, record.pool, record.config.name)


async def enable_backend(call: Call) -> doc.BackendDone:
    """Back again."""
    record = backend_record(call)
    call.host.controller.enable_backend(record.pool, record.config.name)
    return await _backend_done(call, record.pool, record.config.name)


async def set_weight(call: Call) -> doc.BackendDone:
    """Another weight."""
    record = backend_record(call)
    new: doc.NewWeight = call.body
    call.host.controller.set_weight(record.pool, record.config.name, new.weight)
    return await _backend_done(call, record.pool, record.config.name)


async def set_strategy(call: Call) -> doc.Done:
    """Another way to pick. Tried in every worker before anything changes."""
    pool = pool_name(call)
    new: doc.NewStrategy = call.body
    controller = call.host.controller
    wanted = {"name": new.name, "options": new.options}
    try:
        strategy = validate_strategy(wanted)
        config = edits.with_strategy(controller.config, pool, strategy)
    except ConfigError as error:
        raise Refusal(422, "invalid", str(error), problems=tuple(str(one) for one in error.problems)) from None
    except ValueError as error:
        raise _refused(error) from None
    problems = await controller.rehearse(config, REHEARSE_S, controller.tls)
    if problems:
        raise Refusal(422, "invalid", problems[0], problems=tuple(problems))
    if pool not in controller.config.pools:
        raise Refusal(404, "no_such_pool", f"there is no pool {pool!r} any more")
    controller.set_strategy(pool, strategy)
    controller.note("strategy set", new.name, pool)
    return await _done(call)


async def reload(call: Call) -> doc.Plan:
    """Become what the file says now."""
    return _plan(await call.host.reload())


async def plan(call: Call) -> doc.Plan:
    """What that would change."""
    request: doc.PlanRequest = call.body
    if request.config is None:
        return _plan(await call.host.plan())
    controller = call.host.controller
    try:
        # A large one takes a second; checks go on meanwhile.
        wanted = await asyncio.to_thread(validate, request.config)
    except ConfigError as error:
        raise Refusal(422, "invalid", str(error), problems=tuple(str(one) for one in error.problems)) from None
    become = controller.merged(wanted)
    changes = await asyncio.to_thread(diff.plan, controller.config, become.config)
    return _plan(ReloadResult(True, plan=(*changes, *become.notes)))


async def drain_listener(call: Call) -> doc.Done:
    """Accept no more there."""
    return await _listener(call, call.host.drain_listener)


async def open_listener(call: Call) -> doc.Done:
    """Accept again."""
    return await _listener(call, call.host.open_listener)


async def set_log_level(call: Call) -> doc.LogLevel:
    """How much the balancer says of itself."""
    new: doc.NewLogLevel = call.body
    logging.getLogger("headgate").setLevel(LEVELS[new.level])
    return doc.LogLevel(level=new.level)


def validate_strategy(wanted: dict[str, Any]) -> Any:
    """The schema's strategy from a raw table, checked as in a file. Raises ConfigError."""
    tree = {
        "listeners": [{"bind": "127.0.0.1:0"}],
        "pools": {"pool": {"backends": ["http://127.0.0.1:1"], "strategy": wanted}},
    }
    made: Config = validate(tree, label=lambda key: ".".join(str(part) for part in key[2:]))
    return made.pools["pool"].strategy


async def _listener(call: Call, act: Any) -> doc.Done:
    bind = call.params["listener"]
    if all(listener.bind != bind for listener in call.host.listeners):
        known = ", ".join(listener.bind for listener in call.host.listeners)
        raise Refusal(404, "no_such_listener", f"there is no listener {bind!r} (there is: {known})")
    try:
        await act(bind)
    except ValueError as error:
        raise _refused(error, 409) from None
    return await _done(call)


def _plan(result: ReloadResult) -> doc.Plan:
    if not result.ok:
        text = "; ".join(result.problems) or "the new configuration is refused"
        raise Refusal(422, "invalid", text, problems=result.problems)
    changes = [doc.Change(kind=change.kind, where=change.where, text=change.text) for change in result.plan]
    return doc.Plan(changes=changes)


async def _backend_done(call: Call, pool: str, name: str) -> doc.BackendDone:
    done = await _done(call)
    try:
        record = call.host.controller.backend(pool, name)
    except ValueError:
        raise Refusal(409, "conflict", f"backend {name!r} was removed by somebody else meanwhile") from None
    return doc.BackendDone(
        backend=backend_view(call.host, record), applied=done.applied, saved=done.saved, warning=done.warning
    )


async def _done(call: Call) -> doc.Done:
    controller = call.host.controller
    controller.publish_now()
    applied = await controller.applied(APPLY_S)
    why_not_saved = await call.host.saved()
    warnings = [
        *([] if applied else ["not every worker runs it yet"]),
        *([f"not in the state file: {why_not_saved}"] if why_not_saved else []),
    ]
    return doc.Done(applied=applied, saved=why_not_saved == "", warning="; ".join(warnings))


def _refused(error: ValueError, status: int = 422) -> Refusal:
    hint = f" ({error.suggestion})" if isinstance(error, Wrong) and error.suggestion else ""
    return Refusal(status, "conflict" if status == 409 else "invalid", f"{error}{hint}")
