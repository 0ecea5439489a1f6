"""Simulation: what a strategy does to latency, found out in seconds and without a network.

Discrete events in plain Python, and the very strategy classes that run in a worker, with a clock and a random source of
the simulation. The same seed gives the same figures, on any machine.

`scenario` is what Headgate's own strategies are measured by; `workload` makes requests, `server` serves them, `run`
sends one workload through one strategy, `compare` does so for many, `oracle` is what to compare with. `table`, `chart`
and `goals` show what came out. `log` and `replay` take the requests and the servers from an access log instead.

    from headgate.simulate import Candidate, PoissonCase, compare, markdown

    cases = [PoissonCase("exponential", load=0.75, measured_s=60.0)]
    print(markdown(compare(cases, [Candidate("p2c"), Candidate("my_module:MyStrategy")], seeds=[1, 2])))

(In a script of your own, under `if __name__ == "__main__":`, since other processes do the work; or with `processes=1`.)
"""

from headgate.simulate.chart import svg
from headgate.simulate.compare import Result, compare
from headgate.simulate.measure import Measured
from headgate.simulate.run import Candidate, StrategyFailed, run
from headgate.simulate.scenario import LOADS, MEAN_S, SEEDS, SERVERS, Case, PoissonCase
from headgate.simulate.server import Server, Stall
from headgate.simulate.table import as_json, markdown
from headgate.simulate.workload import SERVICES, Caller, ServiceName, Workload, poisson

__all__ = [
    "LOADS",
    "MEAN_S",
    "SEEDS",
    "SERVERS",
    "SERVICES",
    "Caller",
    "Candidate",
    "Case",
    "Measured",
    "PoissonCase",
    "Result",
    "Server",
    "ServiceName",
    "Stall",
    "StrategyFailed",
    "Workload",
    "as_json",
    "compare",
    "markdown",
    "poisson",
    "run",
    "svg",
]
