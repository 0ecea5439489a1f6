"""Reading the configuration again while it runs: validate, plan, try, swap; and what came of it, for whoever asked."""

from __future__ import annotations

from dataclasses import dataclass

from headgate.config.diff import Change


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """What a reload, or the plan of one, came to."""

    ok: bool
    """Is the new configuration in force (could it be, for a plan)? If not, everything is as it was."""
    problems: tuple[str, ...] = ()
    """Every mistake, one line each: "headgate.toml:14: pools.web.strategy: unknown strategy …"."""
    plan: tuple[Change, ...] = ()
    """What changes; and which changes made at run time stay or give way ("kept", "dropped")."""
