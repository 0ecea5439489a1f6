"""Every case of tests/protocol/http1_cases.jsonl through one balancer, each with its own listener and backend."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from .harness import cases
from .harness.headgate import Headgate, pool
from .harness.ports import HeldPort
from .harness.processes import Processes

CASES = cases.load()

# Most of a case's time is waiting for silence, so many run side by side.
SIDE_BY_SIDE = 32


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[cases.Result]]]:
    """The results of all cases, which start to run together with the first test that asks."""
    listeners = [HeldPort() for _ in CASES]
    backends = [HeldPort() for _ in CASES]
    short = {"client_header": "2s"}
    config: dict[str, object] = {
        "access_log": {"format": "off"},
        "listeners": [{"bind": port.bind, "timeouts": short} for port in listeners],
        "routes": [{"listener": port.bind, "pool": f"case{n}"} for n, port in enumerate(listeners)],
        "pools": {f"case{n}": pool(port.url, timeouts={"first_byte": "2s"}) for n, port in enumerate(backends)},
    }
    with Processes() as processes, ThreadPoolExecutor(SIDE_BY_SIDE) as executor:
        headgate = Headgate.run(processes, tmp_path_factory.mktemp("cases"), config, listeners[-1])
        workers = headgate.workers()
        yield {
            case.id: executor.submit(cases.run, case, listener.address, backend)
            for case, listener, backend in zip(CASES, listeners, backends, strict=True)
        }
        executor.shutdown(cancel_futures=True)
        assert headgate.workers() == workers, f"a worker died:\n{headgate.process.output}"
    # Of a case that was cancelled nobody has closed the backend.
    for port in (*listeners, *backends):
        port.close()


def test_the_file_is_complete() -> None:
    assert len(CASES) == len({case.id for case in CASES}) == 269


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_case(case: cases.Case, results: dict[str, Future[cases.Result]]) -> None:
    result = results[case.id].result()
    assert not result.problems, f"{case.why}\n{result}"
