"""What the start says in a few lines: what listens, which pools there are, which backends are up."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.config.addresses import Bind
from headgate.runtime.controller import Controller
from headgate.runtime.states import BackendRecord

# A pool of a thousand backends must not fill the screen; those that are down are what an operator wants to see.
_MOST_SHOWN = 10


def summary(controller: Controller, binds: Sequence[Bind]) -> list[str]:
    """One line per listener, pool and backend; of a large pool only the backends that are not up.

    binds: the addresses really bound, in the order of the configuration's listeners.
    """
    lines = []
    for listener, bind in zip(controller.config.listeners, binds, strict=True):
        status = f" (status page: {listener.status_path})" if listener.status_path else ""
        lines.append(f"listening on {shown(bind, listener.tls is not None)}{status}")
    for name, pool in controller.config.pools.items():
        records = controller.backends(name)
        up = sum(record.routable for record in records)
        lines.append(f"pool {name}: {pool.strategy.name}, {up} of {len(records)} backends up")
        if len(records) <= _MOST_SHOWN:
            lines += [f"  {_line(record)}" for record in records]
            continue
        down = [record for record in records if not record.routable]
        lines += [f"  {_line(record)}" for record in down[:_MOST_SHOWN]]
        if len(down) > _MOST_SHOWN:
            lines.append(f"  and {len(down) - _MOST_SHOWN} more that are not up")
    return lines


def _line(record: BackendRecord) -> str:
    return f"up: {record.config.name}" if record.routable else f"not up: {record.config.name} ({record.reason})"


def shown(bind: Bind, tls: bool = False) -> str:
    """A listener's address as something to paste into a browser or curl, where it is one."""
    if bind.family == "unix":
        return bind.text
    scheme = "https" if tls else "http"
    if not bind.host:
        return f"{scheme}://localhost:{bind.port} (every address of this machine)"
    return f"{scheme}://{bind.text}"
