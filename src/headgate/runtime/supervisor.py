"""`headgate run`: the process that owns sockets, checks and workers, from the first bind to the last drained request.

It carries no traffic. Start: bind everything (or stop with exit code 3), start the workers, wait until each runs the
configuration, wait up to 2 s for names and first checks, then listen and hand the listeners out. A worker that dies
or hangs is replaced. When the supervisor dies, workers see the end of their control socket and drain.

Files beside this one: `crew` (workers), `listening` (sockets), `reload`, `upgrade`, `notify` (systemd).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Literal

import msgspec

from headgate import __version__
from headgate.admin.host import ListenerState
from headgate.admin.state_file import StateFileError
from headgate.config.addresses import Bind
from headgate.config.load import load
from headgate.config.schema import Config
from headgate.engine import stats
from headgate.engine.decisions import Decisions
from headgate.observe import otlp
from headgate.observe.logging import configure
from headgate.observe.otlp import Exporter
from headgate.runtime import signals, upgrade
from headgate.runtime.controller import Controller
from headgate.runtime.cores import worker_count
from headgate.runtime.crew import GRACE_S, NEVER_S, START_TIMEOUT_S, TICK_S, Crew
from headgate.runtime.holder import describe_holder
from headgate.runtime.listening import Listening
from headgate.runtime.messages import Leave, ReopenLogs, Stop
from headgate.runtime.naming import name_process
from headgate.runtime.notify import Notifier, listen_descriptors
from headgate.runtime.overrides import NONE, effective
from headgate.runtime.reload import Reloader, ReloadResult
from headgate.runtime.sockets import BoundSocket, CannotBind
from headgate.runtime.steering import Steering, admin_socket, check_admin, load_changes
from headgate.runtime.summary import summary
from headgate.runtime.upgrade import CannotUpgrade, HandedListener, HandedWorker, Handover, OldWorker
from headgate.runtime.watch import FileWatch
from headgate.tls import check

log = logging.getLogger("headgate.supervisor")

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CONFIG = 2
EXIT_COULD_NOT_START = 3

# Room for what may be added while it runs; memory that is not used is not allocated.
_LEAST_BACKENDS = 8192
_LEAST_POOLS = 1024
_LEAST_ROUTES = 1024
_LEAST_LISTENERS = 64
# Workers that may be there at a time: SIGTTIN adds some, and after an upgrade the old ones finish what they have.
_MORE_WORKERS = 12
_MOST_WORKERS = 1024
# Is the file another one? Looked at so often with `--watch`.
_WATCH_S = 1.0
# Lines of the log in one turn of the loop.
_SLICE = 100
# The segment's eventfds in what is handed over, by number.
_WAKE = "wake"


class Supervisor:
    """One run. `run()` returns the exit code.

    workers: of the command line; goes before the file's, now and after every reload. watch: reload when the file
    changes. given: what the version before left to us. trial: only show that workers come up, and end.
    """

    def __init__(
        self,
        config: Config,
        *,
        loop: AbstractEventLoop,
        app_dir: str | None = None,
        config_path: str | os.PathLike[str] | None = None,
        workers: int | Literal["auto"] | None = None,
        watch: bool = False,
        on_ready: Callable[[], None] | None = None,
        holder: Callable[[Bind], str] = lambda bind: "",
        notifier: Notifier | None = None,
        given: Handover | None = None,
        trial: bool = False,
    ) -> None:
        self._workers = workers
        self._config = self._with_workers(config)
        self._loop = loop
        self._app_dir = app_dir
        self._config_path = config_path
        self._watch = FileWatch(config_path) if watch and config_path is not None else None
        self._on_ready = on_ready
        self._notifier = notifier or Notifier()
        self._given = given
        self._trial = trial
        self._listening = Listening(holder, [] if given or trial else listen_descriptors())
        self._old: list[OldWorker] = []
        self._same_segment = False
        self._changes = NONE
        self._admin_socket: BoundSocket | None = None
        self._steering: Steering | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._serving = False
        self._stopping = False
        self._upgrading = False
        self._notice = False
        self._at_once = False
        self._failure: tuple[int, str] | None = None
        self._changed = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Clients are let in, and may go on coming."""
        return self._serving and not self._stopping

    @property
    def decisions(self) -> Decisions:
        """Where requests went."""
        return self._decisions

    @property
    def listener_states(self) -> list[ListenerState]:
        """Every listener of the file: its real address, and whether it accepts."""
        found = []
        for listener in self._controller.file.listeners:
            bound = self._listening.bound.get(listener.bind.text)
            state: Literal["open", "draining", "closed"] = "open" if self.ready else "closed"
            if bound is None and self.ready:
                state = "draining"
            text = listener.bind.text
            found.append(ListenerState(bound.bind.text if bound is not None else text, state, text))
        return found

    async def drain_listener(self, bind: str) -> None:
        """Accept no more there; open connections go on. Raises ValueError."""
        self._only_while_serving()
        await self._reloader.drain_listener(bind)

    async def open_listener(self, bind: str) -> None:
        """Accept again. Raises ValueError."""
        self._only_while_serving()
        await self._reloader.open_listener(bind)

    def _only_while_serving(self) -> None:
        if not self._serving or self._stopping or self._upgrading:
            raise ValueError("not now: it is starting, being upgraded or stopping")

    @property
    def stopping(self) -> bool:
        """The end has begun: nobody should send anything here any more."""
        return self._stopping

    async def reload(self) -> ReloadResult:
        """Read the configuration again and put it in force; every mistake is in the result, and on the log."""
        if not self._serving or self._stopping or self._upgrading:
            return ReloadResult(False, ("not now: it is starting, being upgraded or stopping",))
        self._notifier.reloading()
        result = await self._reloader.reload()
        for problem in result.problems:
            log.error("reload: %s", problem)
        if result.ok:
            for number, change in enumerate(result.plan, 1):
                log.info("reload: %s", change)
                if number % _SLICE == 0:
                    await asyncio.sleep(0)  # thousands of lines: others have their turns in between
            log.info("reload: new configuration in force%s", "" if result.plan else ", nothing differs")
            differs = sum(change.kind in ("added", "removed", "changed") for change in result.plan)
            self._controller.in_force()
            self._segment.add_supervisor("reloads")
            self._controller.note("reloaded", f"{differs} differences", quiet=True)
        else:
            log.error("reload: the new configuration is refused; the old one stays")
            self._segment.add_supervisor("reloads_refused")
            self._segment.set_supervisor("reload_ok", 0)
            self._controller.note("reload refused", "; ".join(result.problems)[:1000], quiet=True)
        if not self._stopping:
            self._notifier.ready(self._state())
        return result

    async def plan(self) -> ReloadResult:
        """What `reload` would change now, in words."""
        if not self._serving or self._stopping or self._upgrading:
            return ReloadResult(False, ("not now: it is starting, being upgraded or stopping",))
        return await self._reloader.plan()

    async def run(self) -> int:
        """Start, serve until told to stop, drain. Returns the exit code; says why on the log."""
        try:
            otlp.check(self._config.tracing)
            self._changes = self._given.changes if self._given else load_changes(self._config)
        except (StateFileError, ValueError) as error:
            log.error("cannot start: %s", error)
            return EXIT_CONFIG
        try:
            # They were looked over with the configuration; this is for what has changed since, or came another way.
            check.read(effective(self._config, self._changes).config)
        except check.Problems as error:
            for line in str(error).splitlines():
                log.error("cannot start: %s", line)
            return EXIT_CONFIG
        if self._given is not None and not self._trial:
            for handed in self._given.listeners:
                self._listening.adopt(handed.text, upgrade.bound_socket(handed))
        try:
            if not self._trial:
                listeners = effective(self._config, self._changes).config.listeners
                fresh = self._listening.prepare(listeners)
                self._fresh = list(fresh)
                self._listening.commit(listeners, fresh)
                self._listening.no_more_given()
                inherited = self._given.descriptors.get("admin") if self._given is not None else None
                self._admin_socket = admin_socket(self._config.admin, inherited)
        except CannotBind as error:
            for line in str(error).splitlines():
                log.error("%s", line)
            self._listening.close()
            return EXIT_COULD_NOT_START
        handlers = signals.Signals(
            self._loop,
            {
                signals.STOP_NOW: lambda: self._stop(notice=False),
                **dict.fromkeys(signals.STOP, lambda: self._stop(notice=True)),
                signals.REOPEN_LOGS: lambda: self._crew.tell(ReopenLogs()),
                signals.RELOAD: lambda: self._task(self.reload()),
                signals.UPGRADE: lambda: self._task(self._upgrade()),
                signals.MORE: lambda: self._resize(1),
                signals.FEWER: lambda: self._resize(-1),
                signals.CHILD: self._reap,
            },
        )
        self._make()
        upgrade.unblock_signals()
        try:
            return await self._serve()
        finally:
            handlers.close()
            if self._steering is not None:
                await self._steering.close()
            elif self._admin_socket is not None:
                self._admin_socket.close()
            for timer in self._timers:
                timer.cancel()
            for task in self._tasks:
                task.cancel()
            await self._exporter.close()
            self._crew.kill_all()
            for old in self._old:
                old.close()
            self._controller.close()
            self._listening.close()
            self._segment.close()
            self._decisions.close()

    def _make(self) -> None:
        """The parts, out of the configuration and what was handed over."""
        given = self._given
        self._segment = self._old_segment() or self._new_segment()
        self._decisions = Decisions.create(self._segment.workers)
        self._exporter = Exporter(self._decisions, self._loop)
        self._controller = Controller(
            self._config,
            self._segment,
            loop=self._loop,
            changes=self._changes,
            knowledge=given.knowledge if given else None,
            same_segment=self._same_segment,
        )
        self._crew = Crew(
            self._controller,
            self._segment,
            loop=self._loop,
            app_dir=self._app_dir,
            hand_out=self._listening.hand_out,
            news=self._changed.set,
            decisions=self._decisions.fd,
            taken=lambda: [old.number for old in self._old] if self._same_segment else [],
        )
        self._reloader = Reloader(
            self._controller,
            self._crew,
            self._listening,
            loop=self._loop,
            read=self._read if self._config_path is not None else None,
            in_force=self._new_configuration,
        )
        if self._same_segment:
            self._segment.add_supervisor("upgrades")
        if given is not None and not self._trial:
            self._controller.note("upgraded", f"Headgate {__version__} has taken over", quiet=True)
            self._old = [OldWorker(self._loop, worker, self._old_gone) for worker in given.workers]
            self._crew.patient = bool(self._old)
            self._controller.recycling = not self._old

    def _old_segment(self) -> stats.Segment | None:
        """The one of the version before, so that its workers go on hearing of backends, and counters go on."""
        if self._given is None or self._trial:
            return None
        wakes = [fd for name, fd in sorted(self._given.descriptors.items()) if name.startswith(_WAKE)]
        for fd in (self._given.segment, *wakes):
            os.set_inheritable(fd, False)
        try:
            segment = stats.Segment.open(self._given.segment, wakes)
        except ValueError as error:
            log.warning("the counters begin anew: %s", error)
            for fd in (self._given.segment, *wakes):
                os.close(fd)
            return None
        self._same_segment = True
        return segment

    def _new_segment(self) -> stats.Segment:
        count = worker_count(self._config)
        pools = self._config.pools
        backends = sum(len(pool.backends) for pool in pools.values())
        # Twice what there is: a reload may replace them all, and the old ones' slots rest for a moment.
        return stats.Segment.create(
            count,
            backends=max(_LEAST_BACKENDS, 2 * backends),
            pools=max(_LEAST_POOLS, 2 * len(pools)),
            routes=max(_LEAST_ROUTES, 2 * len(self._config.routes)),
            listeners=max(_LEAST_LISTENERS, 2 * len(self._config.listeners)),
            room=min(_MOST_WORKERS, max(4 * count, count + _MORE_WORKERS)),
        )

    async def _serve(self) -> int:
        config = self._controller.config
        if not self._trial:
            self._steering = Steering(
                self, self._controller, self._config.admin, config_path=self._config_path, loop=self._loop
            )
            await self._steering.start(self._admin_socket)
        try:
            self._crew.resize(1 if self._trial else worker_count(config), config.supervisor.retire)
        except ValueError as error:
            self._failure = (EXIT_COULD_NOT_START, str(error))
        self._tick()
        self._reap()
        if not await self._came_up():
            return self._give_up()
        if self._trial:
            return EXIT_OK
        await self._first_round()
        if not self._stopping and self._failure is None:
            try:
                self._let_in()
            except CannotBind as error:
                log.error("%s", error)
                return EXIT_COULD_NOT_START
        while not self._stopping and self._failure is None:
            await self._wait()
        if self._failure is not None:
            return self._give_up()
        return await self._drain()

    # Starting

    async def _came_up(self) -> bool:
        """Wait until every worker runs the configuration; false when one cannot.

        After an upgrade the old workers serve meanwhile: then it is waited for as long as it takes.
        """
        deadline = self._loop.time() + START_TIMEOUT_S
        said = ""
        while self._failure is None and not self._stopping:
            if self._crew.up:
                return True
            rejected = next((link.rejected for link in self._controller.links if link.rejected), "")
            if rejected and self._old:
                if rejected != said:
                    said = rejected
                    log.error("the new workers refuse the configuration (%s); the old ones serve on", rejected)
                await self._wait()
            elif rejected:
                # What only a worker finds out: a strategy that cannot be imported or built.
                where = f"{self._config_path}: " if self._config_path else ""
                self._failure = (EXIT_CONFIG, where + rejected)
            elif self._crew.failure is not None:
                final, text = self._crew.failure
                self._failure = (EXIT_COULD_NOT_START if final else EXIT_FAILED, text)
            elif self._loop.time() >= deadline and not self._old:
                self._failure = (EXIT_COULD_NOT_START, f"a worker did not come up within {START_TIMEOUT_S:g} s")
            else:
                await self._wait(None if self._old else deadline - self._loop.time())
        return self._failure is None

    async def _first_round(self) -> None:
        """Wait for names and checks, but not when there is something more urgent."""
        task = self._loop.create_task(self._controller.first_round())
        task.add_done_callback(lambda _: self._changed.set())
        while not task.done() and not self._stopping and self._failure is None:
            await self._wait()
        task.cancel()

    def _let_in(self) -> None:
        self._listening.listen(self._fresh)
        self._serving = self._crew.serving = True
        self._exporter.configure(self._controller.config.tracing)
        for link in self._crew.links:
            self._listening.hand_out(link)
        for line in summary(self._controller, self._listening.binds):
            log.info("%s", line)
        if self._given is not None:
            log.info("upgraded from %s to %s; %d old workers finish", self._given.version, __version__, len(self._old))
        limit_s = self._controller.config.supervisor.retire or NEVER_S
        for old in self._old:
            old.drain(limit_s, limit_s)
        self._notifier.ready(self._state())
        if self._on_ready is not None:
            self._on_ready()

    def _give_up(self) -> int:
        code, text = self._failure or (EXIT_FAILED, "unknown")
        log.error("cannot %s: %s", "go on" if self._serving else "start", text)
        return code

    # While it runs

    def _tick(self) -> None:
        """Twice a second."""
        self._timers = [self._loop.call_later(TICK_S, self._tick)]
        watchdog_s = self._controller.config.supervisor.watchdog
        self._crew.look_after(watchdog_s)
        if self._same_segment and watchdog_s:
            for old in self._old:
                if self._loop.time() - self._segment.heartbeat_s(old.number) > 2 * watchdog_s:
                    old.kill()
        if self._serving:
            self._reloader.look_after()
        now = self._loop.time()
        if self._notifier.watchdog_s and now >= self._next_word:
            self._next_word = now + self._notifier.watchdog_s / 2 - TICK_S
            self._notifier.alive()
        if self._watch is not None and now >= self._next_look:
            self._next_look = now + _WATCH_S
            if self._watch.changed() and self._serving:
                log.info("the configuration file has changed")
                self._task(self.reload())

    _next_word = 0.0
    _next_look = 0.0

    def _read(self) -> Config:
        assert self._config_path is not None
        config = self._with_workers(load(self._config_path))
        check_admin(self._config.admin, config.admin)
        otlp.check(config.tracing)
        return config

    def _new_configuration(self) -> None:
        if self._steering is not None and self._controller.file.admin is not None:
            self._steering.configure(self._controller.file.admin)
        self._exporter.configure(self._controller.file.tracing)
        self._changed.set()

    def _with_workers(self, config: Config) -> Config:
        return config if self._workers is None else msgspec.structs.replace(config, workers=self._workers)

    def _state(self) -> str:
        config = self._controller.config
        backends = sum(len(pool.backends) for pool in config.pools.values())
        return f"{len(self._crew.working)} workers, {len(config.pools)} pools, {backends} backends"

    def _resize(self, by: int) -> None:
        """SIGTTIN, SIGTTOU."""
        count = len(self._crew.working) + by
        if not self._serving or self._stopping or self._upgrading or count < 1:
            return
        try:
            self._crew.resize(count, self._controller.config.supervisor.retire)
        except ValueError as error:
            log.error("%s", error)
            return
        self._controller.set_workers(count)

    def _reap(self) -> None:
        for old in list(self._old):
            old.reap()
        self._crew.reap()

    def _old_gone(self, old: OldWorker) -> None:
        self._old.remove(old)
        if self._same_segment:
            self._segment.zero_worker_gauges(old.number)
            self._segment.set_worker(old.number, "heartbeat_ms", 0)
        if not self._old:
            self._controller.recycling = True
            if self._serving and not self._stopping:
                log.info("the workers of the version before have finished")
        if not self._serving and not self._stopping:
            log.error("old worker %d ended before the new ones serve", old.number)
        self._changed.set()

    def _task(self, work: Coroutine[Any, Any, object]) -> None:
        task = self._loop.create_task(_swallow(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Upgrade

    async def _upgrade(self) -> None:
        """SIGUSR2: become the version that is installed now, if it shows that it can run."""
        if not self._serving or self._stopping or self._upgrading:
            log.warning("upgrade: not now: it is starting, being upgraded or stopping")
            return
        self._upgrading = True
        self._notifier.reloading()
        try:
            log.info("upgrade: the new version is tried")
            await upgrade.try_new_version(self._handover())
            async with self._reloader.alone, self._api_at_rest():
                if self._stopping:
                    return
                await self._all_said()
                log.info("upgrade: the new version takes over")
                upgrade.replace(self._handover())
        except (CannotUpgrade, OSError) as error:
            for line in str(error).splitlines():
                log.error("upgrade: %s", line)
            log.error("upgrade: refused; the running version stays")
            self._controller.note("upgrade refused", str(error)[:1000], quiet=True)
        finally:
            self._upgrading = False
            if not self._stopping:
                self._notifier.ready(self._state())

    @contextlib.asynccontextmanager
    async def _api_at_rest(self) -> AsyncIterator[None]:
        """What was asked of the admin API is answered; who asks now waits, for the new version if there will be one."""
        if self._steering is not None:
            await self._steering.rest()
        try:
            yield
        finally:  # not after exec(2)
            if self._steering is not None:
                await self._steering.resume()

    async def _all_said(self) -> None:
        """Wait until the workers have read what they were told: half a message would make nonsense of the next."""
        for _ in range(100):
            if not any(link.busy for link in self._crew.links):
                return
            await asyncio.sleep(0.02)
        raise CannotUpgrade("a worker does not read what it is told")

    def _handover(self) -> Handover:
        workers = [HandedWorker(worker, pid, control) for worker, pid, control in self._crew.handed()]
        return Handover(
            version=__version__,
            changes=self._controller.changes,
            knowledge=self._controller.knowledge(),
            listeners=[
                HandedListener(text, bound.bind, bound.sock.fileno(), bound.file, bound.shared)
                for text, bound in self._listening.bound.items()
            ],
            workers=[*workers, *(old.handed for old in self._old)],
            segment=self._segment.fd,
            descriptors={f"{_WAKE}{number:04d}": fd for number, fd in enumerate(self._segment.wakes)}
            | ({} if self._admin_socket is None else {"admin": self._admin_socket.sock.fileno()}),
        )

    # Ending

    def _stop(self, *, notice: bool) -> None:
        if self._stopping:
            log.warning("second signal: ending at once")
            self._at_once = True
        else:
            self._notice = notice and self._serving
        self._stopping = True
        self._changed.set()

    async def _drain(self) -> int:
        settings = self._controller.config.supervisor
        log.info("stopping: requests in flight have %g s to finish", settings.drain)
        self._notifier.stopping("requests in flight finish")
        began = self._loop.time()
        idle_s = min(settings.notice, settings.drain) if self._notice else 0.0
        if idle_s and any(listener.ready_path for listener in self._controller.config.listeners):
            self._crew.tell(Leave())
            await self._notice_period(began + idle_s)
            idle_s = 0.0
        await self._listening.let_in_no_more()
        self._listening.close()  # our copies; each worker closes its own first of all
        left = max(0.0, began + settings.drain - self._loop.time())
        self._crew.drain(left, idle_s)
        for old in self._old:
            old.drain(left, idle_s)
        deadline = self._loop.time() + left + GRACE_S
        while not self._all_ended() and not self._at_once:
            left = deadline - self._loop.time()
            if left <= 0:
                log.warning("some workers did not end in time")
                break
            await self._wait(left)
        if self._at_once:
            await self._end_at_once()
        log.info("stopped")
        return EXIT_OK

    async def _notice_period(self, until: float) -> None:
        """Clients may still come while `ready_path` says that they should not."""
        while self._loop.time() < until and not self._at_once:
            await self._wait(until - self._loop.time())

    def _all_ended(self) -> bool:
        return self._crew.ended and not self._old

    async def _end_at_once(self) -> None:
        self._crew.tell(Stop())
        for old in self._old:
            old.kill()
        deadline = self._loop.time() + 0.5
        while not self._all_ended() and self._loop.time() < deadline:
            await self._wait(deadline - self._loop.time())

    async def _wait(self, timeout_s: float | None = None) -> None:
        """Until something has changed."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()


async def _swallow(work: Coroutine[Any, Any, object]) -> None:
    """A signal's work: nobody waits for its result, and what it raises must be seen."""
    try:
        await work
    except Exception:
        log.exception("a signal could not be obeyed")


def serve(
    config: Config,
    *,
    app_dir: str | None = None,
    config_path: str | os.PathLike[str] | None = None,
    workers: int | Literal["auto"] | None = None,
    watch: bool = False,
    on_ready: Callable[[], None] | None = None,
) -> int:
    """Run a configuration until SIGTERM or SIGINT; returns the process's exit code.

    0: stopped as told. 1: the workers keep dying. 2: the configuration is wrong in a way that only a worker finds out
    (a strategy that cannot be built). 3: could not start (an address is taken). The reason is on the log.

    app_dir: where workers look for strategy modules first. config_path: read again on SIGHUP. workers: instead of the
    configuration's, now and after every reload. watch: reload when the file changes. on_ready: called once, when
    clients are let in. To be called in the main thread, with no event loop running.
    """
    if not logging.getLogger("headgate").handlers:
        configure()
    raise_open_files()
    name_process("headgate")
    trial = upgrade.TRIAL in os.environ
    try:
        given = upgrade.given()
    except (ValueError, OSError) as error:
        log.error("cannot take over: %s", error)
        return EXIT_COULD_NOT_START

    async def run() -> int:
        supervisor = Supervisor(
            config,
            loop=asyncio.get_running_loop(),
            app_dir=app_dir,
            config_path=config_path,
            workers=workers,
            watch=watch,
            on_ready=on_ready,
            holder=describe_holder,
            notifier=Notifier({}) if trial else None,
            given=given,
            trial=trial,
        )
        return await supervisor.run()

    return asyncio.run(run())


def raise_open_files() -> int:
    """Raise the soft limit of open files to the hard one (workers inherit it); returns the limit in force.

    The usual soft limit of 1,024 is there for programs that use select().
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return hard
