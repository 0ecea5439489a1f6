"""The hostile cases again, in pieces: what a message means never depends on how it was cut on its way.

Every case of tests/protocol/http1_cases.jsonl of up to 2 KiB is sent whole, byte by byte, and cut at 20 random places
in 20 different ways. The outcome must be acceptable each time, and the same each time; only that a broken answer whose
beginning was already passed on is broken off, where it is replaced by a 502 when it comes in one piece. (In memory,
tests/protocol cuts at every position.) The seed is fixed; HEADGATE_SEED chooses another.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from .harness import cases
from .harness.headgate import Headgate, pool
from .harness.ports import HeldPort
from .harness.processes import Processes

SEED = os.environ.get("HEADGATE_SEED", "1")
CASES = [case for case in cases.load() if len(case.raw) <= 2048]

# Nearly all of a case's time is waiting for silence, so many run side by side.
SIDE_BY_SIDE = 24
CUTS = 20
CUTTINGS = 20
# Of the few cases whose outcome is a timeout (2 to 4 s each), so many: they would take longer than all others together.
CUTTINGS_OF_SLOW = 3
SLOW_S = 1.0

# Without a pause the kernel would put most pieces together again before the balancer reads.
PAUSE_S = 0.0003


class LentPort(HeldPort):
    """A port for one backend after the other: closing a backend does not give it back."""

    def close(self) -> None:
        """Not yet."""

    def give_back(self) -> None:
        super().close()


def _paced(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        time.sleep(PAUSE_S)


def byte_by_byte(data: bytes) -> Iterable[bytes]:
    return _paced(data[at : at + 1] for at in range(len(data)))


def randomly(seed: str) -> cases.Cut:
    """Cuts at CUTS random places, always the same ones for a seed."""

    def cut(data: bytes) -> Iterable[bytes]:
        places = random.Random(seed).sample(range(1, len(data)), min(CUTS, len(data) - 1)) if len(data) > 1 else []
        return _paced(data[a:b] for a, b in itertools.pairwise([0, *sorted(places), len(data)]))

    return cut


def _same(outcome: list[str], whole: list[str]) -> bool:
    """Equal, or told as well as it could be once the answer had begun."""
    return outcome == whole or (whole == ["502"] and outcome == ["abort"])


def _all_ways(case: cases.Case, address: tuple[str, int], port: HeldPort) -> list[str]:
    """What is wrong with the outcomes."""
    started = time.monotonic()
    whole = cases.run(case, address, port)
    slow = time.monotonic() - started > SLOW_S
    wrong = [f"whole:\n{whole}"] if whole.problems else []
    ways: dict[str, cases.Cut] = {"byte by byte": byte_by_byte}
    for number in range(CUTTINGS_OF_SLOW if slow else CUTTINGS):
        seed = f"{SEED} {case.id} {number}"
        ways[f"cut with seed {seed!r}"] = randomly(seed)
    for name, cut in ways.items():
        result = cases.run(case, address, port, cut, len(whole.outcome))
        if result.problems or not _same(result.outcome, whole.outcome):
            wrong.append(f"{name}, where the whole came to {whole.outcome}:\n{result}")
    return wrong


def _patience(case: cases.Case) -> str:
    """The balancer's timeouts: short where one of them is the outcome; else longer than a busy machine takes for a
    head of 2,000 pieces."""
    return "2s" if any({"wait", "408", "504"} & set(outcome.split(",")) for outcome in case.expect) else "30s"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[list[str]]]]:
    """What went wrong with each case; all start to run together with the first test that asks."""
    listeners = [HeldPort() for _ in CASES]
    backends = [LentPort() for _ in CASES]
    config: dict[str, object] = {
        "access_log": {"format": "off"},
        "listeners": [
            {"bind": port.bind, "timeouts": {"client_header": _patience(case)}}
            for case, port in zip(CASES, listeners, strict=True)
        ],
        "routes": [{"listener": port.bind, "pool": f"case{n}"} for n, port in enumerate(listeners)],
        "pools": {
            f"case{n}": pool(port.url, timeouts={"first_byte": _patience(case)})
            for n, (case, port) in enumerate(zip(CASES, backends, strict=True))
        },
    }
    with Processes() as processes, ThreadPoolExecutor(SIDE_BY_SIDE) as executor:
        headgate = Headgate.run(processes, tmp_path_factory.mktemp("fragmented"), config, listeners[-1])
        workers = headgate.workers()
        yield {
            case.id: executor.submit(_all_ways, case, listener.address, backend)
            for case, listener, backend in zip(CASES, listeners, backends, strict=True)
        }
        executor.shutdown(cancel_futures=True)
        assert headgate.workers() == workers, f"a worker died:\n{headgate.process.output}"
    for port in listeners:
        port.close()
    for lent in backends:
        lent.give_back()


def test_most_cases_are_small_enough() -> None:
    assert len(CASES) == 255


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_the_outcome_does_not_depend_on_the_pieces(case: cases.Case, results: dict[str, Future[list[str]]]) -> None:
    wrong = results[case.id].result()
    assert not wrong, "\n".join([case.why, *wrong])
