"""`headgate simulate`: which strategy would serve best?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.cli import common

if TYPE_CHECKING:
    from headgate.simulate import Candidate, Case, Result

_EPILOG = """\
examples:
  headgate simulate --load 75 --seconds 60 --seeds 1
      a first impression: every built-in strategy, one simulated minute
  headgate simulate --strategy p2c --strategy my_module:MyStrategy --load 75
      your own strategy against one of ours
  headgate simulate
      the whole scenario; many minutes, on all cores
  headgate simulate --log access.json --pool web
      the requests of an access log (access_log.format = "json"), served again under every strategy

The scenario, what it shows and what it cannot show: docs/simulation.md.
"""


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "simulate",
        help="compare strategies by simulation, in a fixed scenario or on your own access log",
        description="Compare strategies by simulation, in a fixed scenario or on your own access log.",
        epilog=_EPILOG,
        formatter_class=common.Formatter,
    )
    parser.add_argument(
        "--strategy",
        metavar="NAME",
        action="append",
        help='one to compare, may be repeated: a built-in one, "package.module:Class", or "oracle"; options follow as '
        "NAME,key=value (default: all built-in ones and the oracle)",
    )
    parser.add_argument(
        "--seeds", metavar="N", type=_whole, help="how many runs with different randomness (default: 5; on a log 1)"
    )
    parser.add_argument("--processes", metavar="N", type=_whole, help="how many at once (default: one per core)")
    parser.add_argument("--out", metavar="DIR", help="write results.md, results.json and charts (SVG) there")
    common.add_app_dir(parser)
    scenario = parser.add_argument_group("the scenario")
    scenario.add_argument(
        "--load", metavar="PERCENT", type=_percent, action="append", help="may be repeated (default: 30, 50, 75, 90)"
    )
    scenario.add_argument(
        "--service",
        choices=("constant", "exponential", "lognormal"),
        action="append",
        help="how service times vary, may be repeated (default: all three)",
    )
    scenario.add_argument("--seconds", metavar="S", type=_seconds, help="simulated time to measure (default: 600)")
    log = parser.add_argument_group("your own log, instead of the scenario")
    log.add_argument("--log", metavar="FILE", help='an access log in JSON (access_log.format = "json")')
    log.add_argument("--pool", metavar="NAME", help="whose requests; needed where the log has several pools")
    log.add_argument(
        "-c", "--config", metavar="FILE", help="take the weights and the strategy of the pool from this configuration"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Simulates; prints tables to standard output; returns the exit code."""
    # Imported here: no other command needs any of it.
    from headgate.simulate import SEEDS, compare, markdown
    from headgate.simulate.goals import ORACLE, goals, judge
    from headgate.simulate.table import goals_markdown

    app_dir = common.app_dir(args)
    candidates = _candidates(args.strategy, ORACLE if args.log is None else None)
    cases: list[Case]
    logged: list[Result] = []
    if args.log is None:
        if args.pool or args.config:
            raise common.UsageError("--pool and --config belong to --log")
        cases = _scenario(args)
    else:
        if args.load or args.service or args.seconds:
            raise common.UsageError("--load, --service and --seconds belong to the scenario, not to --log")
        cases, logged, configured = _replay(args)
        if configured is not None and configured.title not in [candidate.title for candidate in candidates]:
            candidates.append(configured)
    _try(candidates, app_dir)
    seeds = range(1, args.seeds + 1) if args.seeds else SEEDS if args.log is None else (1,)
    results = compare(cases, candidates, seeds, processes=args.processes, app_dir=app_dir, progress=_progress())
    results = [*logged, *results]
    text = markdown(results, reference=ORACLE)
    verdicts = judge(goals(), results)
    if verdicts:
        text += "\n### Goals\n\n" + goals_markdown(verdicts)
    print(text, end="")
    if args.out:
        _write(Path(args.out), text, results)
    return common.EXIT_OK


def _scenario(args: argparse.Namespace) -> list[Case]:
    from headgate.simulate.scenario import LOADS, MEASURED_S, PoissonCase
    from headgate.simulate.workload import SERVICES

    return [
        PoissonCase(service, load, measured_s=args.seconds or MEASURED_S)
        for service in args.service or ("exponential", *(name for name in SERVICES if name != "exponential"))
        for load in args.load or LOADS
    ]


def _replay(args: argparse.Namespace) -> tuple[list[Case], list[Result], Candidate | None]:
    """The log as a case, what the log itself says as a result, and the strategy that is configured."""
    from headgate.config.load import load
    from headgate.simulate import Candidate, Result
    from headgate.simulate.log import LogError, read_log
    from headgate.simulate.replay import ReplayCase

    try:
        log = read_log(args.log, args.pool)
    except OSError as error:
        raise common.UsageError(f"--log {args.log}: {error.strerror or error}") from error
    except LogError as error:
        raise common.UsageError(f"--log {args.log}: {error}") from error
    if log.unreadable:
        common.say(f"{args.log}: {log.unreadable} lines could not be read")
    if log.left_out:
        common.say(f"{args.log}: {log.left_out} requests failed or took several attempts, and are left out")
    weights: dict[str, int] = {}
    configured = None
    if args.config:
        pool = load(args.config).pools.get(log.pool)
        if pool is None:
            raise common.UsageError(f"{args.config} has no pool {log.pool}")
        weights = {backend.name: backend.weight for backend in pool.backends}
        configured = Candidate(pool.strategy.name, pool.strategy.options)
    try:
        case = ReplayCase(log, weights)
    except ValueError as error:
        raise common.UsageError(f"{args.config}: {error}") from error
    return [case], [Result(case, Candidate("", label="as logged"), {1: case.logged})], configured


def _candidates(specs: Sequence[str] | None, oracle: str | None) -> list[Candidate]:
    from headgate.simulate import Candidate
    from headgate.simulate.goals import choices

    if not specs:
        return [Candidate(name) for name in (*([oracle] if oracle else []), *choices())]
    made = []
    for spec in specs:
        name, *pairs = spec.split(",")
        options: dict[str, object] = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not key or not equals:
                raise common.UsageError(f"--strategy {spec}: {pair!r} is not key=value")
            options[key] = _value(value)
        made.append(Candidate(name, options))
    return list({candidate.title: candidate for candidate in made}.values())


def _value(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _try(candidates: Sequence[Candidate], app_dir: str) -> None:
    """Makes each once, so that a mistake is told before minutes of work."""
    from random import Random

    from headgate.balancing.base import Context
    from headgate.engine.hashing import hash64

    context = Context(Random(1), lambda: 0.0, hash64)
    for candidate in candidates:
        try:
            candidate.make(context, app_dir)
        except ValueError as error:
            raise common.UsageError(f"--strategy: {error}") from error


def _progress() -> Callable[[int, int], None]:
    if not sys.stderr.isatty():
        return lambda ended, total: None

    def show(ended: int, total: int) -> None:
        print(f"\r{ended} of {total}", end="" if ended < total else "\r            \r", file=sys.stderr, flush=True)

    return show


def _write(directory: Path, text: str, results: Sequence[Result]) -> None:
    from headgate.simulate import as_json, svg
    from headgate.simulate.scenario import PoissonCase

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.md").write_text(text)
    (directory / "results.json").write_text(as_json(results))
    charts: dict[str, list[Result]] = {}
    for result in results:
        charts.setdefault(result.case.service if isinstance(result.case, PoissonCase) else "log", []).append(result)

    def label(result: Result) -> str:
        return f"{result.case.load * 100:g} %" if isinstance(result.case, PoissonCase) else "log"

    for name, those in charts.items():
        loads = list(dict.fromkeys(map(label, those)))[-4:]
        title = f"{name.capitalize()} service times, by load" if name != "log" else "The access log, served again"
        shown = [result for result in those if label(result) in loads]
        (directory / f"{name}.svg").write_text(svg(shown, title, label))


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError("more than 0, and less than 1,000,000")
    return number


def _percent(text: str) -> float:
    number = float(text.rstrip("% "))
    if not 0 < number <= 200:
        raise argparse.ArgumentTypeError("from above 0 to 200")
    return number / 100
