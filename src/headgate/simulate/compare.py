"""Many runs: every strategy under every case, with several seeds, spread over processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from multiprocessing import get_context
from statistics import fmean
from typing import Any

from headgate.simulate.measure import Measured
from headgate.simulate.run import Candidate, run
from headgate.simulate.scenario import Case

FIGURES = tuple(field.name for field in fields(Measured) if field.name != "shares")


@dataclass(frozen=True, slots=True)
class Result:
    """One strategy under one case, by seed."""

    case: Case
    candidate: Candidate
    runs: Mapping[int, Measured]

    def mean(self, figure: str) -> float:
        """The mean over the seeds of a figure of `Measured`."""
        return fmean(getattr(measured, figure) for measured in self.runs.values())

    def spread(self, figure: str) -> tuple[float, float]:
        """The least and the greatest."""
        values = [getattr(measured, figure) for measured in self.runs.values()]
        return min(values), max(values)

    def share(self, server: str) -> float:
        """The mean share of the requests that this server was given."""
        return fmean(measured.shares[server] for measured in self.runs.values())

    def as_json(self) -> dict[str, Any]:
        """Every run with every figure."""
        return {
            "case": self.case.title,
            "strategy": self.candidate.title,
            "runs": {str(seed): asdict(measured) for seed, measured in sorted(self.runs.items())},
        }


def compare(
    cases: Sequence[Case],
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    *,
    processes: int | None = None,
    app_dir: str | None = None,
    progress: Callable[[int, int], None] = lambda ended, total: None,
) -> list[Result]:
    """Runs everything; the order of the results is that of the cases, then of the candidates.

    processes: how many at once; None = one for each core that this process may use; 1 = none but this one. progress:
    called with the number of ended and of all jobs. Raises what `run` raises.
    """
    found: dict[tuple[int, int], dict[int, Measured]] = {}
    jobs = [(number, case, seed) for seed in seeds for number, case in enumerate(cases)]
    for ended, (number, seed, measured) in enumerate(_run_all(jobs, candidates, processes, app_dir), 1):
        for index, one in enumerate(measured):
            found.setdefault((number, index), {})[seed] = one
        progress(ended, len(jobs))
    return [
        Result(case, candidate, found[number, index])
        for number, case in enumerate(cases)
        for index, candidate in enumerate(candidates)
    ]


Job = tuple[int, Case, int]
Ended = tuple[int, int, list[Measured]]


def _run_all(
    jobs: Sequence[Job], candidates: Sequence[Candidate], processes: int | None, app_dir: str | None
) -> Iterator[Ended]:
    count = min(len(jobs), processes or len(os.sched_getaffinity(0)))
    if count <= 1:
        for job in jobs:
            yield _run_job(job, candidates, app_dir)
        return
    # Spawned, not forked: the caller may have threads.
    with ProcessPoolExecutor(count, get_context("spawn")) as pool:
        waiting = [pool.submit(_run_job, job, candidates, app_dir) for job in jobs]
        try:
            for future in as_completed(waiting):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run_job(job: Job, candidates: Sequence[Candidate], app_dir: str | None) -> Ended:
    """One workload, made once, through every strategy."""
    number, case, seed = job
    workload = case.workload(seed)
    measured = [
        run(candidate, case.servers, workload, seed=seed, warm_up_s=case.warm_up_s, app_dir=app_dir)
        for candidate in candidates
    ]
    return number, seed, measured
