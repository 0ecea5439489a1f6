"""Names to addresses: several of them, changes, failures, and resolvers that hang."""

from __future__ import annotations

import asyncio
import logging
import queue
import socket
import threading
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from headgate.discovery.dns import Resolver, system_lookup
from headgate.runtime.address import pack_address


def ipv4(*last: int) -> list[bytes]:
    return [pack_address(socket.AF_INET, (f"127.0.0.{number}", 80)) for number in last]


V6 = pack_address(socket.AF_INET6, ("::1", 80))


class Answers:
    """A resolver that answers when the test says so. `asked` gets each name; `answer` lets one lookup return."""

    def __init__(self) -> None:
        self.asked: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.waiting: dict[str, queue.SimpleQueue[list[bytes] | Exception]] = {}
        self.lock = threading.Lock()

    def _queue(self, host: str) -> queue.SimpleQueue[list[bytes] | Exception]:
        with self.lock:
            return self.waiting.setdefault(host, queue.SimpleQueue())

    def __call__(self, host: str, port: int) -> list[bytes]:
        self.asked.put(host)
        answer = self._queue(host).get(timeout=10)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answer(self, host: str, answer: list[bytes] | Exception) -> None:
        self._queue(host).put(answer)

    async def wait_asked(self) -> str:
        return await asyncio.to_thread(self.asked.get, True, 10)


class Changes:
    """What the resolver reported, awaitable."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[tuple[str, list[bytes], str]] = asyncio.Queue()

    def __call__(self, name: tuple[str, int], addresses: list[bytes], reason: str) -> None:
        self.seen.put_nowait((name[0], list(addresses), reason))

    async def next(self) -> tuple[str, list[bytes], str]:
        async with asyncio.timeout(10):
            return await self.seen.get()


def run(
    scenario: Callable[[Resolver, Answers, Changes], Awaitable[None]],
    *,
    interval_s: float = 0.01,
    patience_s: float = 5.0,
) -> None:
    async def main() -> None:
        answers, changes = Answers(), Changes()
        resolver = Resolver(
            asyncio.get_running_loop(),
            changes,
            lookup=answers,
            random=Random(1),
            interval_s=interval_s,
            soonest_s=0.01,
            patience_s=patience_s,
        )
        try:
            await scenario(resolver, answers, changes)
        finally:
            resolver.close()
            for host in list(answers.waiting):
                answers.answer(host, [])

    asyncio.run(main())


def test_literal_addresses_never_touch_the_resolver() -> None:
    async def scenario(resolver: Resolver, answers: Answers, changes: Changes) -> None:
        assert resolver.watch("127.0.0.1", 80) == ipv4(1)
        assert resolver.watch("::1", 80) == [V6]
        assert await resolver.settled(0)
        resolver.refresh("127.0.0.1", 80)
        resolver.unwatch("127.0.0.1", 80)
        assert answers.asked.empty()

    run(scenario)


def test_all_addresses_in_the_resolvers_order() -> None:
    async def scenario(resolver: Resolver, answers: Answers, changes: Changes) -> None:
        assert resolver.watch("a", 80) == []
        assert resolver.reason("a", 80) == "not resolved yet"
        answers.answer("a", [V6, *ipv4(2, 1)])
        assert await changes.next() == ("a", [V6, *ipv4(2, 1)], "")
        assert resolver.reason("a", 80) == ""
        assert resolver.watch("a", 80) == [V6, *ipv4(2, 1)], "known to the next backend at once"

    run(scenario)


def test_a_name_that_moves_is_followed_and_another_order_is_no_change() -> None:
    async def scenario(resolver: Resolver, answers: Answers, changes: Changes) -> None:
        resolver.watch("a", 80)
        for answer in (ipv4(1, 2), ipv4(2, 1), ipv4(2, 3)):
            answers.answer("a", answer)
        assert (await changes.next())[1] == ipv4(1, 2)
        assert (await changes.next())[1] == ipv4(2, 3)

    run(scenario)


def test_the_last_good_addresses_outlive_failures(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(resolver: Resolver, answers: Answers, changes: Changes) -> None:
        resolver.watch("a", 80)
        answers.answer("a", ipv4(1))
        await changes.next()
        for _ in range(3):
            await answers.wait_asked()
            answers.answer("a", socket.gaierror(-3, "Temporary failure in name resolution"))
        await answers.wait_asked()
        await answers.wait_asked()
        assert resolver.watch("a", 80) == ipv4(1)
        assert "temporary failure" in resolver.reason("a", 80)
        answers.answer("a", [])
        answers.answer("a", ipv4(9))
        assert await changes.next() == ("a", ipv4(9), "")
        assert changes.seen.empty(), "failures are not reported as changes while good addresses are in use"

    with caplog.at_level(logging.INFO, "headgate.discovery"):
        run(scenario)
    texts = [record.message for record in caplog.records]
    assert texts == [
        "name a does not resolve: temporary failure in name resolution; the last good addresses stay in use",
        "name a does not resolve: the name has no address; the last good addresses stay in use",
        "name a resolves again",
    ]


def test_a_name_that_never_resolved_says_why_once() -> None:
    async def scenario(resolver: Resolver, answers: Answers, changes: Changes) -> None:
        resolver.watch("a", 80)
        for _ in range(3):
            answers.answer("a", socket.gaierror(-2, "Name or service not known"))
        answers.answer("a", RuntimeError("broken lookup"))
        answers.answer("a", ipv4(1))
        assert await changes.next() == ("a", [], "name or service not known")
        assert await changes.next() == ("a", [], "RuntimeError: broken lookup")
        assert await changes.next() == ("a", ipv4(1), "")

    run(scenario)


def test_a_resolver_that_hangs_holds_up_nothing() -> None:
    async def scenario(resolver: Resolver, answers: Answers, changes: Changes) -> None:
        resolver.watch("hangs", 80)
        resolver.watch("quick", 80)
        answers.answer("quick", ipv4(1))
        assert await changes.next() == ("quick", ipv4(1), "")
        assert not await resolver.settled(0.01)
        name, addresses, reason = await changes.next()
        assert (name, addresses) == ("hangs", [])
        assert reason == "no answer from the resolver within 1 s"
        assert await resolver.settled(0)
        answers.answer("hangs", ipv4(2))
        assert await changes.next() == ("hangs", ipv4(2), ""), "a late answer is still an answer"

    run(scenario, interval_s=100, patience_s=1.0)


def test_connect_failures_ask_again_before_the_interval() -> None:
    async def scenario(resolver: Resolver, answers: Answers, changes: Changes) -> None:
        resolver.watch("a", 80)
        answers.answer("a", ipv4(1))
        await changes.next()
        for _ in range(100):
            resolver.refresh("a", 80)
        answers.answer("a", ipv4(2))
        assert (await changes.next())[1] == ipv4(2)
        assert [await answers.wait_asked(), await answers.wait_asked()] == ["a", "a"]
        assert answers.asked.empty(), "a hundred failures, one lookup"

    run(scenario, interval_s=100)


def test_a_name_is_followed_as_long_as_anybody_wants_it() -> None:
    async def scenario(resolver: Resolver, answers: Answers, changes: Changes) -> None:
        resolver.watch("a", 80)
        resolver.watch("a", 80)
        resolver.unwatch("a", 80)
        answers.answer("a", ipv4(1))
        await changes.next()
        resolver.unwatch("a", 80)
        assert resolver.watch("a", 80) == [], "forgotten with its last user"

    run(scenario)


def test_a_name_given_up_before_its_answer_does_not_hold_up_the_start() -> None:
    async def scenario(resolver: Resolver, answers: Answers, changes: Changes) -> None:
        resolver.watch("a", 80)
        assert not await resolver.settled(0)
        resolver.unwatch("a", 80)
        assert await resolver.settled(0)
        answers.answer("a", ipv4(1))

    run(scenario)


def test_the_systems_resolver_knows_this_machine() -> None:
    found = system_lookup("localhost", 80)
    assert set(found) & {*ipv4(1), V6}
    assert len(found) == len(set(found))


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
def test_what_cannot_be_a_name_is_an_ordinary_failure(host: str) -> None:
    with pytest.raises(OSError, match="name"):
        system_lookup(host, 80)
