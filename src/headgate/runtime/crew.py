"""The worker processes: started, counted, watched, replaced, retired.

Each has a number, which is its part of the shared segment: a replacement takes the number of the one that died, so that
counters go on. One that is retired (the number of workers was lowered) finishes what it has under its own number.
"""

from __future__ import annotations

import logging
import signal
import subprocess
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterable

from headgate.engine import stats
from headgate.runtime.controller import Controller
from headgate.runtime.links import Link
from headgate.runtime.messages import Applied, Drain, Drained, Log, Message
from headgate.runtime.processes import COULD_NOT_START, Backoff, describe_exit, processor_s, spawn

log = logging.getLogger("headgate.supervisor")

# Importing and compiling a large application module for a strategy may take a while; more than this is a hang.
START_TIMEOUT_S = 30.0
# A worker ends by itself when its deadline is over; this much later it is killed.
GRACE_S = 2.0
# "off" for a time that a worker has: ten years.
NEVER_S = 10 * 365 * 86400.0
# How often workers are looked after.
TICK_S = 0.5
# How often an engine writes that it lives: one that does looks up to so much older.
BEAT_S = 1.0
# A worker that crashes this often before it ever came up is not going to.
_START_TRIES = 3
# The supervisor's own timer came so late: whatever held it up (a suspended machine) may have held up the workers, too.
_HELD_UP_S = 1.0


class Worker:
    """One number and the process that fills it, if there is one now."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.link: Link | None = None
        self.started = 0.0
        self.backoff = Backoff()
        self.last_error = ""
        self.timer: TimerHandle | None = None
        self.leaving = False
        self.killed_for = ""
        self.ended_at = 0.0
        """When its last process was found dead; 0 once another one serves."""


class Crew:
    """All workers of one supervisor.

    hand_out: gives a worker its listening sockets; called for each new one once `serving` is set. news: called when
    something has changed that somebody may wait for. taken: numbers that others use (workers of the version before).
    decisions: the memfd in which workers keep where requests went; -1 = none.
    """

    def __init__(
        self,
        controller: Controller,
        segment: stats.Segment,
        *,
        loop: AbstractEventLoop,
        app_dir: str | None,
        hand_out: Callable[[Link], None],
        news: Callable[[], None],
        taken: Callable[[], Iterable[int]] = tuple,
        decisions: int = -1,
    ) -> None:
        self._controller = controller
        self._segment = segment
        self._loop = loop
        self._app_dir = app_dir
        self._hand_out = hand_out
        self._news = news
        self._taken = taken
        self._decisions = decisions
        self._workers: dict[int, Worker] = {}
        self._stopping = False
        self._looked = loop.time()
        self._spare_until = 0.0
        self.serving = False
        """Clients are let in: new workers get the listeners, and none is given up any more."""
        self.patient = False
        """A start that fails is tried again for ever: somebody else serves meanwhile."""
        self.failure: tuple[bool, str] | None = None
        """Why the start was given up: (would every try end so?, text)."""
        controller.on_message = self._message
        controller.on_gone = self._channel_gone

    @property
    def working(self) -> list[Worker]:
        """Those that are to stay, by number."""
        return [self._workers[number] for number in sorted(self._workers) if not self._workers[number].leaving]

    @property
    def links(self) -> list[Link]:
        """Of every process that runs, retiring ones included."""
        return [worker.link for worker in self._workers.values() if worker.link is not None]

    @property
    def up(self) -> bool:
        """Does every worker that is to stay run a configuration?"""
        return all(worker.link is not None and worker.link.generation for worker in self.working)

    @property
    def ended(self) -> bool:
        """Is no process left?"""
        return all(worker.process is None for worker in self._workers.values())

    def handed(self) -> list[tuple[int, int, int]]:
        """(number, pid, control descriptor) of every process, for an upgrade."""
        return [
            (worker.number, worker.process.pid, worker.link.fileno())
            for worker in self._workers.values()
            if worker.process is not None and worker.link is not None and not worker.link.closed
        ]

    # How many

    def resize(self, count: int, retire_s: float) -> None:
        """So many workers from now on. Raises ValueError when the segment has no room for as many."""
        working = self.working
        free = sorted(set(range(self._segment.workers)) - self._workers.keys() - set(self._taken()))
        missing = count - len(working)
        if missing > len(free):
            raise ValueError(f"there is room for {len(working) + len(free)} workers now, not {count}: restart for more")
        for number in free[: max(0, missing)]:
            worker = self._workers[number] = Worker(number)
            self._segment.use_workers(number + 1)
            self._start(worker)
        for worker in working[count:]:
            self._retire(worker, retire_s)
        if missing and working:
            log.info("workers: %d, were %d", count, len(working))
        self._news()

    def _retire(self, worker: Worker, retire_s: float) -> None:
        worker.leaving = True
        if worker.timer is not None:
            worker.timer.cancel()
        if worker.link is None:
            del self._workers[worker.number]
            return
        limit_s = retire_s or NEVER_S
        worker.link.send(Drain(limit_s, limit_s))
        if worker.process is not None:
            self._loop.call_later(limit_s + GRACE_S, kill, worker.process)

    def _start(self, worker: Worker) -> None:
        worker.timer = None
        if self._stopping:
            return
        worker.started = self._loop.time()
        worker.killed_for = ""
        try:
            self._segment.add_supervisor("worker_starts")
            worker.process, channel = spawn(
                worker.number, self._segment.fd, self._app_dir, self._segment.wakes, self._decisions
            )
        except OSError as error:
            self._died(worker, f"cannot be started: {error.strerror or error}", served=False)
            return
        worker.link = self._controller.attach(channel, worker.number)
        if self.serving:
            self._hand_out(worker.link)

    # What becomes of them

    def _message(self, link: Link, message: Message) -> None:
        worker = self._workers.get(link.worker)
        if worker is not None and isinstance(message, Log) and message.level == "error":
            worker.last_error = message.text
        if worker is not None and worker.ended_at and isinstance(message, Applied):
            self._serves_again(worker)
        if isinstance(message, Drained) and message.cut_off:
            log.warning("worker %d: %d requests were cut off at the deadline", link.worker, message.cut_off)
        self._news()

    def _serves_again(self, worker: Worker) -> None:
        """Say how long it took: the clock's time has in it what else the machine did, the processor's has not."""
        took_s, worker.ended_at = self._loop.time() - worker.ended_at, 0.0
        assert worker.process is not None
        log.info(
            "worker %d serves again, %.2f s after its end (%.2f s of processor time)",
            worker.number,
            took_s,
            processor_s(worker.process.pid),
        )

    def _channel_gone(self, link: Link) -> None:
        """The worker closed its channel: it is ending, or broken. It has a moment to end by itself."""
        worker = self._workers.get(link.worker)
        if worker is not None and worker.link is link and worker.process is not None:
            self._loop.call_later(GRACE_S, kill, worker.process)
        self.reap()

    def reap(self) -> None:
        """Some child has ended: replace those that should not have."""
        for worker in list(self._workers.values()):
            process = worker.process
            if process is None or process.poll() is None:
                continue
            link, worker.process, worker.link = worker.link, None, None
            served = link is not None and link.generation > 0
            self._segment.set_worker(worker.number, "heartbeat_ms", 0)  # nobody lives there: it is not counted
            if link is not None:
                link.read_last_words()
                self._controller.detach(link)
            if worker.leaving:
                del self._workers[worker.number]
                log.info("worker %d has finished", worker.number)
            elif not self._stopping:
                worker.ended_at = self._loop.time()
                text = worker.killed_for or describe_exit(process.returncode)
                self._died(worker, text, served=served, final=process.returncode == COULD_NOT_START)
        self._news()

    def _died(self, worker: Worker, how: str, *, served: bool, final: bool = False) -> None:
        """Start it again, now or a little later; give up when the start cannot succeed."""
        self._segment.add_supervisor("worker_deaths")
        delay_s = worker.backoff.died(self._loop.time() - worker.started, served=served)
        hopeless = final or worker.backoff.deaths >= _START_TRIES
        if hopeless and not self.serving and not self.patient:
            self.failure = (final, worker.last_error or f"worker {worker.number}: {how}")
            self._news()
            return
        again = f"again in {delay_s:.2g} s" if delay_s else "started again"
        log.error("worker %d died (%s); %s", worker.number, how, again)
        self._controller.note("worker died", f"worker {worker.number}: {how}; {again}", quiet=True)
        worker.timer = self._loop.call_later(delay_s, self._start, worker)

    def look_after(self, watchdog_s: float) -> None:
        """To be called every TICK_S: kill who hangs. (The replacement comes when its death is noticed.)

        A worker's engine writes the time into the segment once a second; one that is stuck in somebody's code, or
        stopped, does not.
        """
        now = self._loop.time()
        if now - self._looked > TICK_S + _HELD_UP_S:
            self._spare_until = now + watchdog_s
        self._looked = now
        if now < self._spare_until:
            return
        for worker in self._workers.values():
            if worker.process is None or worker.link is None or worker.killed_for:
                continue
            if worker.link.generation == 0:
                if now - worker.started > START_TIMEOUT_S:
                    self._kill_hung(worker, f"did not come up within {START_TIMEOUT_S:g} s")
            elif watchdog_s and now - self._segment.heartbeat_s(worker.number) > watchdog_s + BEAT_S:
                self._kill_hung(worker, f"no sign of life for {watchdog_s:g} s")

    def _kill_hung(self, worker: Worker, why: str) -> None:
        assert worker.process is not None
        worker.killed_for = f"killed: {why}"
        kill(worker.process)

    # The end

    def drain(self, limit_s: float, idle_s: float = 0.0) -> None:
        """No worker is replaced any more; each finishes what it has and exits."""
        self._stopping = True
        for worker in self._workers.values():
            if worker.timer is not None:
                worker.timer.cancel()
            if worker.link is not None:
                worker.link.send(Drain(limit_s, idle_s))

    def tell(self, message: Message) -> None:
        """Something for all of them."""
        for link in self.links:
            link.send(message)

    def kill_all(self) -> None:
        """The end of everything that is left."""
        self._stopping = True
        for worker in self._workers.values():
            if worker.timer is not None:
                worker.timer.cancel()
            if worker.process is not None:
                kill(worker.process)
                worker.process.wait()


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL, if it still runs."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
