"""`headgate run`: the process that owns sockets, checks and workers, from the first bind to the last drained request.

It carries no traffic. Start: bind everything (or stop with exit code 3), start the workers, wait until each runs the
configuration, wait up to 2 s for names and first checks, then listen and hand the listeners out. A worker that dies
is replaced. When the supervisor dies, workers see the end of their control socket and drain.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import subprocess
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Literal

from headgate.admin.host import ListenerState
from headgate.admin.service import bind as bind_admin
from headgate.admin.state_file import StateFileError
from headgate.admin.state_file import load as load_state
from headgate.config.addresses import Bind
from headgate.config.load import load
from headgate.config.schema import Config
from headgate.engine import stats
from headgate.observe.logging import configure
from headgate.runtime import signals
from headgate.runtime.controller import Controller
from headgate.runtime.holder import describe_holder
from headgate.runtime.links import Link
from headgate.runtime.messages import Drain, Drained, Listen, Log, Message, ReopenLogs, Stop
from headgate.runtime.overrides import NONE
from headgate.runtime.processes import COULD_NOT_START, Backoff, describe_exit, spawn
from headgate.runtime.sockets import BoundSocket, CannotBind, bind_all
from headgate.runtime.steering import Steering
from headgate.runtime.summary import summary

log = logging.getLogger("headgate.supervisor")

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CONFIG = 2
EXIT_COULD_NOT_START = 3

# Importing and compiling a large application module for a strategy may take a while; more than this is a hang.
START_TIMEOUT_S = 30.0
# A worker ends by itself when its deadline is over; this much later it is killed.
_GRACE_S = 2.0
# Room for what may be added while it runs; memory that is not used is not allocated.
_LEAST_BACKENDS = 8192
_LEAST_POOLS = 1024
# A worker that crashes this often before it ever came up is not going to.
_START_TRIES = 3


class _Worker:
    """One worker number and the process that fills it, if there is one now."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.link: Link | None = None
        self.started = 0.0
        self.backoff = Backoff()
        self.last_error = ""
        self.timer: asyncio.TimerHandle | None = None


class Supervisor:
    """One run. `run()` returns the exit code."""

    def __init__(
        self,
        config: Config,
        *,
        loop: AbstractEventLoop,
        app_dir: str | None = None,
        config_path: str | os.PathLike[str] | None = None,
        on_ready: Callable[[], None] | None = None,
        holder: Callable[[Bind], str] = lambda bind: "",
    ) -> None:
        self._config = config
        self._loop = loop
        self._app_dir = app_dir
        self._config_path = config_path
        self._on_ready = on_ready
        self._holder = holder
        self._controller: Controller | None = None
        self._segment: stats.Segment | None = None
        self._bound: list[BoundSocket] = []
        self._admin_socket: BoundSocket | None = None
        self._steering: Steering | None = None
        self._listening = False
        self._stopping = False
        self._at_once = False
        self._workers: list[_Worker] = []
        self._failure: tuple[int, str] | None = None
        self._changed = asyncio.Event()

    async def run(self) -> int:
        """Start, serve until told to stop, drain. Returns the exit code; says why on the log."""
        try:
            self._bound = bind_all((listener.bind for listener in self._config.listeners), self._holder)
            self._admin_socket = bind_admin(self._config.admin)
        except CannotBind as error:
            for line in str(error).splitlines():
                log.error("%s", line)
            for bound in self._bound:
                bound.close()
            return EXIT_COULD_NOT_START
        handlers = signals.Signals(
            self._loop,
            {
                **dict.fromkeys(signals.STOP, self._stop),
                signals.REOPEN_LOGS: self._reopen_logs,
                signals.RELOAD: self._reload_config,
                signals.CHILD: self._reap,
            },
        )
        try:
            return await self._serve()
        finally:
            handlers.close()
            if self._steering is not None:
                await self._steering.close()
            elif self._admin_socket is not None:
                self._admin_socket.close()
            self._kill_all()
            if self._controller is not None:
                self._controller.close()
            for bound in self._bound:
                bound.close()
            if self._segment is not None:
                self._segment.close()

    async def _serve(self) -> int:
        count = worker_count(self._config)
        backends = sum(len(pool.backends) for pool in self._config.pools.values())
        # Twice what there is: a reload may replace them all, and the old ones' slots rest for a moment.
        self._segment = stats.Segment.create(
            count, backends=max(_LEAST_BACKENDS, 2 * backends), pools=max(_LEAST_POOLS, 2 * len(self._config.pools))
        )
        state_file = self._config.admin.state_file if self._config.admin is not None else ""
        try:
            changes = load_state(state_file, self._config) if state_file else NONE
        except StateFileError as error:
            log.error("cannot start: %s", error)
            return EXIT_CONFIG
        self._controller = controller = Controller(self._config, self._segment, loop=self._loop, changes=changes)
        if self._config.admin is not None and self._admin_socket is not None:
            path = os.fspath(self._config_path) if self._config_path is not None else ""
            self._steering = Steering(self, controller, config_path=path, state_file=state_file, loop=self._loop)
            await self._steering.start(self._config.admin, self._admin_socket)
        controller.on_message = self._message
        controller.on_gone = self._channel_gone
        self._workers = [_Worker(number) for number in range(count)]
        for worker in self._workers:
            self._start(worker)
        if not await self._came_up(controller):
            return self._give_up()
        await self._first_round(controller)
        if not self._stopping and self._failure is None:
            try:
                self._listen()
            except CannotBind as error:
                log.error("%s", error)
                return EXIT_COULD_NOT_START
            for line in summary(controller, [bound.bind for bound in self._bound]):
                log.info("%s", line)
            if self._on_ready is not None:
                self._on_ready()
        while not self._stopping and self._failure is None:
            await self._wait()
        if self._failure is not None:
            return self._give_up()
        return await self._drain()

    # What the admin API sees

    @property
    def ready(self) -> bool:
        """Clients are let in, and may go on coming."""
        return self._listening and not self._stopping

    @property
    def listener_states(self) -> list[ListenerState]:
        """Every listener, with its real port."""
        state: Literal["open", "draining", "closed"] = "open" if self.ready else "closed"
        return [ListenerState(bound.bind.text, state) for bound in self._bound]

    # Starting

    async def _came_up(self, controller: Controller) -> bool:
        """Wait until every worker runs the configuration; false when one cannot."""
        deadline = self._loop.time() + START_TIMEOUT_S
        while self._failure is None and not self._stopping:
            if all(worker.link is not None and worker.link.generation for worker in self._workers):
                return True
            rejected = next((link.rejected for link in controller.links if link.rejected), "")
            if rejected:
                # What only a worker finds out: a strategy that cannot be imported or built.
                where = f"{self._config_path}: " if self._config_path else ""
                self._failure = (EXIT_CONFIG, where + rejected)
            elif self._loop.time() >= deadline:
                self._failure = (EXIT_COULD_NOT_START, f"a worker did not come up within {START_TIMEOUT_S:g} s")
            else:
                await self._wait(deadline - self._loop.time())
        return self._failure is None

    async def _first_round(self, controller: Controller) -> None:
        """Wait for names and checks, but not when there is something more urgent."""
        task = self._loop.create_task(controller.first_round())
        task.add_done_callback(lambda _: self._changed.set())
        while not task.done() and not self._stopping and self._failure is None:
            await self._wait()
        task.cancel()

    def _give_up(self) -> int:
        code, text = self._failure or (EXIT_FAILED, "unknown")
        log.error("cannot %s: %s", "go on" if self._listening else "start", text)
        return code

    def _start(self, worker: _Worker) -> None:
        assert self._controller is not None
        assert self._segment is not None
        worker.timer = None
        if self._stopping:
            return
        worker.started = self._loop.time()
        try:
            worker.process, channel = spawn(worker.number, self._segment.fd, self._app_dir)
        except OSError as error:
            self._died(worker, f"cannot be started: {error.strerror or error}", served=False)
            return
        worker.link = self._controller.attach(channel, worker.number)
        if self._listening:
            self._hand_out(worker.link)

    def _listen(self) -> None:
        for bound in self._bound:
            bound.listen()
        self._listening = True
        for worker in self._workers:
            if worker.link is not None:
                self._hand_out(worker.link)

    def _hand_out(self, link: Link) -> None:
        for bound, listener in zip(self._bound, self._config.listeners, strict=True):
            link.send(Listen(listener), [bound.sock.fileno()])

    # Workers that end

    def _message(self, link: Link, message: Message) -> None:
        if isinstance(message, Log) and message.level == "error":
            self._workers[link.worker].last_error = message.text
        if isinstance(message, Drained) and message.cut_off:
            log.warning("worker %d: %d requests were cut off at the deadline", link.worker, message.cut_off)
        self._changed.set()

    def _channel_gone(self, link: Link) -> None:
        """The worker closed its channel: it is ending, or broken. It has a moment to end by itself."""
        worker = self._workers[link.worker]
        process = worker.process
        if worker.link is link and process is not None:
            self._loop.call_later(_GRACE_S, _kill, process)
        self._reap()

    def _reap(self) -> None:
        for worker in self._workers:
            process = worker.process
            if process is None or process.poll() is None:
                continue
            link, worker.process, worker.link = worker.link, None, None
            served = link is not None and link.generation > 0
            if link is not None:
                link.read_last_words()
                if self._controller is not None:
                    self._controller.detach(link)
            if not self._stopping:
                text = describe_exit(process.returncode)
                self._died(worker, text, served=served, final=process.returncode == COULD_NOT_START)
        self._changed.set()

    def _died(self, worker: _Worker, how: str, *, served: bool, final: bool = False) -> None:
        """Start it again, now or a little later; give up when the start cannot succeed."""
        delay_s = worker.backoff.died(self._loop.time() - worker.started, served=served)
        if not self._listening and (final or worker.backoff.deaths >= _START_TRIES):
            code = EXIT_COULD_NOT_START if final else EXIT_FAILED
            self._failure = (code, worker.last_error or f"worker {worker.number}: {how}")
            self._changed.set()
            return
        again = f"again in {delay_s:.2g} s" if delay_s else "started again"
        log.error("worker %d died (%s); %s", worker.number, how, again)
        worker.timer = self._loop.call_later(delay_s, self._start, worker)

    # Ending

    def _stop(self) -> None:
        if self._stopping:
            log.warning("second signal: ending at once")
            self._at_once = True
        self._stopping = True
        self._changed.set()

    async def _drain(self) -> int:
        limit_s = self._config.supervisor.drain
        log.info("stopping: requests in flight have %g s to finish", limit_s)
        for bound in self._bound:
            bound.close()  # our copies; each worker closes its own first of all
        for worker in self._workers:
            if worker.timer is not None:
                worker.timer.cancel()
            if worker.link is not None:
                worker.link.send(Drain(limit_s))
        deadline = self._loop.time() + limit_s + _GRACE_S
        while any(worker.process is not None for worker in self._workers) and not self._at_once:
            left = deadline - self._loop.time()
            if left <= 0:
                log.warning("some workers did not end in time")
                break
            await self._wait(left)
        if self._at_once:
            await self._end_at_once()
        log.info("stopped")
        return EXIT_OK

    async def _end_at_once(self) -> None:
        for worker in self._workers:
            if worker.link is not None:
                worker.link.send(Stop())
        deadline = self._loop.time() + 0.5
        while any(worker.process is not None for worker in self._workers) and self._loop.time() < deadline:
            await self._wait(deadline - self._loop.time())

    def _kill_all(self) -> None:
        self._stopping = True
        for worker in self._workers:
            if worker.timer is not None:
                worker.timer.cancel()
            if worker.process is not None:
                _kill(worker.process)
                worker.process.wait()

    async def _wait(self, timeout_s: float | None = None) -> None:
        """Until something has changed."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    # Signals

    def _reopen_logs(self) -> None:
        for worker in self._workers:
            if worker.link is not None:
                worker.link.send(ReopenLogs())

    def _reload_config(self) -> None:
        if self._config_path is None or self._controller is None or not self._listening:
            log.warning("SIGHUP: there is no configuration file to read again; nothing changed")
            return
        try:
            config = load(self._config_path)
            for what in ("listeners", "workers"):
                if getattr(config, what) != getattr(self._config, what):
                    raise ValueError(f"a change of `{what}` needs a restart")
            self._controller.apply(config)
        except Exception as error:
            for line in str(error).splitlines():
                log.error("SIGHUP: %s", line)
            log.error("SIGHUP: the new configuration is refused; the old one stays")
            return
        self._config = config
        log.info("SIGHUP: new configuration in force")


def serve(
    config: Config,
    *,
    app_dir: str | None = None,
    config_path: str | os.PathLike[str] | None = None,
    on_ready: Callable[[], None] | None = None,
) -> int:
    """Run a configuration until SIGTERM or SIGINT; returns the process's exit code.

    0: stopped as told. 1: the workers keep dying. 2: the configuration is wrong in a way that only a worker finds out
    (a strategy that cannot be built). 3: could not start (an address is taken). The reason is on the log.

    app_dir: where workers look for strategy modules first. config_path: read again on SIGHUP.
    on_ready: called once, when clients are let in. To be called in the main thread, with no event loop running.
    """
    if not logging.getLogger("headgate").handlers:
        configure()
    raise_open_files()

    async def run() -> int:
        supervisor = Supervisor(
            config,
            loop=asyncio.get_running_loop(),
            app_dir=app_dir,
            config_path=config_path,
            on_ready=on_ready,
            holder=describe_holder,
        )
        return await supervisor.run()

    return asyncio.run(run())


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)


def worker_count(config: Config) -> int:
    """How many workers: the number given, or one for each core this process may run on."""
    return len(os.sched_getaffinity(0)) if config.workers == "auto" else config.workers


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
