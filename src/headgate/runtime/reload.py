"""Reading the configuration again while it runs: validate, plan, try, swap; and what came of it, for whoever asked.

Nothing is touched before all that can fail has been tried: the file is read and checked, new addresses are bound, and
every worker builds what may fail (strategies, the log, static answers) and throws it away. So a mistake leaves
everything as it was, and whoever asked gets all mistakes at once.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import AbstractEventLoop
from collections.abc import Callable
from dataclasses import dataclass, replace

from headgate.config.diff import Change, plan
from headgate.config.problems import ConfigError
from headgate.config.schema import Config
from headgate.runtime.controller import Controller
from headgate.runtime.cores import worker_count
from headgate.runtime.crew import START_TIMEOUT_S, Crew
from headgate.runtime.guard import Counts, Guard
from headgate.runtime.listening import Listening, discard
from headgate.runtime.sockets import BoundSocket, CannotBind
from headgate.tls.files import TlsFiles
from headgate.tls.inventory import differences

log = logging.getLogger("headgate.supervisor")

# So often the differences are worked out beside the loop; if somebody changes something each time, in it.
_PLANS = 3


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """What a reload, or the plan of one, came to."""

    ok: bool
    """Is the new configuration in force (could it be, for a plan)? If not, everything is as it was."""
    problems: tuple[str, ...] = ()
    """Every mistake, one line each: "headgate.toml:14: pools.web.strategy: unknown strategy …"."""
    plan: tuple[Change, ...] = ()
    """What changes; and which changes made at run time stay or give way ("kept", "dropped")."""


@dataclass(frozen=True, slots=True)
class _Tried:
    """What was made on the way: sockets of new listeners by their address as configured, certificates and keys."""

    fresh: dict[str, BoundSocket]
    tls: TlsFiles


class Reloader:
    """Does the reloads of one supervisor, one at a time.

    read: reads and checks the configuration anew; None where it did not come from a file. in_force: called after each
    change of configuration.
    """

    def __init__(
        self,
        controller: Controller,
        crew: Crew,
        listening: Listening,
        *,
        loop: AbstractEventLoop,
        read: Callable[[], Config] | None,
        in_force: Callable[[], None],
    ) -> None:
        self._controller = controller
        self._crew = crew
        self._listening = listening
        self._loop = loop
        self._read = read
        self._in_force = in_force
        self._guard = Guard()
        self._before: tuple[Config, TlsFiles] | None = None
        self._taking_back: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()

    @property
    def alone(self) -> asyncio.Lock:
        """Whoever holds it knows that no reload is under way, and none begins."""
        return self._one_at_a_time

    async def reload(self) -> ReloadResult:
        """Read the configuration again and put it in force, or say why not."""
        async with self._one_at_a_time:
            read = await self._config()
            if isinstance(read, ReloadResult):
                return read
            before = self._controller.file, self._controller.tls
            result = await self._swap(read)
            if result.ok:
                self._before = before
                settings = self._controller.config.supervisor.rollback
                self._guard.begin(self._loop.time(), self._counts(), settings if result.plan else None)
            return result

    async def plan(self) -> ReloadResult:
        """What `reload` would do now. Tries all that can be tried; changes nothing."""
        async with self._one_at_a_time:
            read = await self._config()
            if isinstance(read, ReloadResult):
                return read
            tried = await self._try(read)
            if isinstance(tried, ReloadResult):
                return tried
            discard(tried.fresh)
            return ReloadResult(True, plan=await self._plan(read, tried.tls))

    async def drain_listener(self, bind: str) -> None:
        """Close a listener until `open_listener`; its connections live on. Raises ValueError for an unknown one."""
        async with self._one_at_a_time:
            text = self._named(bind)
            await self._listening.let_in_no_more(self._listening.bound.keys() - {text})
            self._controller.set_listener(text, closed=True)
            self._listening.commit(self._controller.config.listeners, {})
            self._controller.note("listener drained", bind)

    async def open_listener(self, bind: str) -> None:
        """Let clients in again. Raises ValueError, for an address that somebody else has taken as well."""
        async with self._one_at_a_time:
            text = self._named(bind)
            wanted = [listener for listener in self._controller.file.listeners if listener.bind.text == text]
            try:
                fresh = self._listening.prepare(wanted)
            except CannotBind as error:
                raise ValueError(str(error)) from None
            if not fresh:
                return
            names = list(fresh)
            self._controller.set_listener(text, closed=False)
            self._listening.commit(self._controller.config.listeners, fresh)
            # Not before the workers have it in their configuration: they ignore what they do not know.
            await self._controller.applied(START_TIMEOUT_S)
            try:
                self._listening.listen(names)
            except CannotBind as error:
                self._controller.set_listener(text, closed=True)
                self._listening.commit(self._controller.config.listeners, {})
                raise ValueError(str(error)) from None
            for link in self._crew.links:
                self._listening.hand_out(link, names)
            self._controller.note("listener opened", bind)

    def _named(self, bind: str) -> str:
        """A listener's address as configured, from that or from the one really bound."""
        for listener in self._controller.file.listeners:
            text = listener.bind.text
            bound = self._listening.bound.get(text)
            if bind == text or (bound is not None and bind == bound.bind.text):
                return text
        raise ValueError(f"there is no listener {bind!r}")

    def look_after(self) -> None:
        """To be called twice a second: takes back a reload that did harm, if the configuration asks for it."""
        settings = self._controller.config.supervisor.rollback
        if settings is None and not self._guard.watching:
            return
        now, counts = self._loop.time(), self._counts()
        why = self._guard.verdict(now, counts)
        if settings is not None:
            self._guard.sample(now, counts, settings.within)
        if why and self._before is not None:
            log.error("reload: %s: the old configuration comes back; the file still has the new one", why)
            self._taking_back = self._loop.create_task(self._take_back(*self._before, why))

    async def _take_back(self, before: Config, tls: TlsFiles, why: str) -> None:
        async with self._one_at_a_time:
            result = await self._swap(before, tls)
            if result.ok:
                self._controller.segment.add_supervisor("rollbacks")
                self._controller.segment.set_supervisor("reload_ok", 0)
                self._controller.note("reload taken back", why, quiet=True)
            for problem in result.problems:
                log.error("reload: the old configuration cannot come back: %s", problem)

    async def _config(self) -> Config | ReloadResult:
        if self._read is None:
            return ReloadResult(False, ("there is no configuration file to read again",))
        try:
            # In a thread: 5,000 backends take 0.3 s, and checks, dead workers and the admin API do not wait for that.
            return await asyncio.to_thread(self._read)
        except ConfigError as error:
            return ReloadResult(False, tuple(str(problem) for problem in error.problems))
        except Exception as error:
            return ReloadResult(False, tuple(str(error).splitlines()) or (repr(error),))

    async def _plan(self, config: Config, tls: TlsFiles) -> tuple[Change, ...]:
        """What would change, as it is when this returns: who changes something meanwhile makes it begin anew."""
        renewed = [Change("changed", path, text) for path, text in differences(self._controller.tls, tls)]
        for _ in range(_PLANS):
            before, become = self._controller.config, self._controller.merged(config)
            changes = await asyncio.to_thread(plan, before, become.config)
            if self._controller.config is before:
                return (*changes, *renewed, *become.notes)
        become = self._controller.merged(config)
        return (*plan(self._controller.config, become.config), *renewed, *become.notes)

    async def _try(self, config: Config, tls: TlsFiles | None = None) -> _Tried | ReloadResult:
        """Everything that may fail, before anything is changed. tls: certificates and keys, where the files are not to
        be read."""
        new = self._controller.merged(config).config
        problems: list[str] = []
        if tls is None:
            try:
                tls = await asyncio.to_thread(self._controller.read_tls, new)
            except ValueError as error:
                return ReloadResult(False, tuple(str(error).splitlines()))
        fresh: dict[str, BoundSocket] = {}
        try:
            fresh = self._listening.prepare(new.listeners)
        except CannotBind as error:
            problems += str(error).splitlines()
        problems += await self._controller.rehearse(new, START_TIMEOUT_S, tls)
        if problems:
            discard(fresh)
            return ReloadResult(False, tuple(problems))
        return _Tried(fresh, tls)

    async def _swap(self, config: Config, tls: TlsFiles | None = None) -> ReloadResult:
        tried = await self._try(config, tls)
        if isinstance(tried, ReloadResult):
            return tried
        controller, crew, listening = self._controller, self._crew, self._listening
        before = controller.file, controller.tls
        await listening.let_in_no_more({listener.bind.text for listener in controller.merged(config).config.listeners})
        changes = await self._plan(config, tried.tls)
        try:
            controller.reload(config, tried.tls)
        except ValueError as error:  # no room in the segment
            listening.let_in_again()
            discard(tried.fresh)
            return ReloadResult(False, (str(error),))
        fresh = list(tried.fresh)
        listening.commit(controller.config.listeners, tried.fresh)
        problems = self._resize()
        await controller.applied(START_TIMEOUT_S)
        problems += [link.rejected for link in controller.links if link.rejected]
        if not problems:
            try:
                listening.listen(fresh)
            except CannotBind as error:
                problems.append(str(error))
        if problems:
            # Rare: it was tried before, and something has happened in between.
            controller.reload(*before)
            listening.commit(
                [listener for listener in controller.config.listeners if listener.bind.text in listening.bound], {}
            )
            self._resize()
            return ReloadResult(False, tuple(dict.fromkeys(problems)))
        for link in crew.links:
            listening.hand_out(link, fresh)
        self._in_force()
        return replace(ReloadResult(True), plan=changes)

    def _resize(self) -> list[str]:
        config = self._controller.config
        try:
            self._crew.resize(worker_count(config), config.supervisor.retire)
        except ValueError as error:
            return [str(error)]
        return []

    def _counts(self) -> Counts:
        status = self._controller.segment.totals()["status"]
        return Counts(sum(status[1:]), status[5])
