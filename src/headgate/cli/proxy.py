"""`headgate proxy`: balance over a few backends named on the command line."""

from __future__ import annotations

import argparse

from headgate.balancing.registry import BUILT_IN
from headgate.cli import common
from headgate.cli.strategies import try_strategies
from headgate.config.problems import Key
from headgate.config.simple import POOL, simple_tree
from headgate.config.validate import validate

_LISTEN = "127.0.0.1:8080"
_EPILOG = """\
examples:
  headgate proxy --to http://127.0.0.1:9001 --to http://127.0.0.1:9002
      round robin over two servers, on http://127.0.0.1:8080
  headgate proxy --listen :80 --to http://a:9001 --to http://b:9002,weight=2 --strategy weighted_round_robin
      on every address of the machine; b gets twice as many requests
  headgate proxy --to unix:/run/app.sock --health-path /health --health-interval 10s
      a server on a unix socket, asked every ten seconds how it is

Backends are checked all the time: without --health-path by connecting, with it by GET (200 passes). One that
fails gets no requests until it is well again; a request that fails is tried on another backend.
What the balancer thinks of its backends: curl http://127.0.0.1:8080/lb/status (answered to this machine only).

Durations are written "500ms", "5s", "2m"; a plain number means seconds.
"""


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "proxy",
        help="balance over backends named on the command line",
        description="Balance over backends named on the command line, without a configuration file.",
        epilog=_EPILOG,
        formatter_class=common.Formatter,
    )
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        action="append",
        help=f'where clients connect: "127.0.0.1:8080", "[::1]:8080", ":8080" for every address, or "unix:/path";'
        f" may be given more than once (default: {_LISTEN})",
    )
    parser.add_argument(
        "--to",
        metavar="URL[,weight=N]",
        action="append",
        required=True,
        help='a backend: "http://host:port" or "unix:/path"; give one --to for each',
    )
    parser.add_argument(
        "--strategy",
        metavar="NAME",
        help='how a backend is picked: "package.module:Class" for one of your own, or '
        + ", ".join(BUILT_IN)
        + " (default: round_robin)",
    )
    parser.add_argument("--sticky", choices=["cookie"], help="keep a client on its backend by a cookie")
    parser.add_argument("--retries", metavar="N", type=int, help="further backends to try when one fails (default: 2)")
    parser.add_argument(
        "--timeout", metavar="DURATION", help="how long a backend may take to begin its answer (default: 60s)"
    )
    health = parser.add_argument_group("health checks")
    health.add_argument(
        "--health-type",
        choices=["tcp", "http", "none"],
        help="how backends are checked (default: http with --health-path, else tcp)",
    )
    health.add_argument("--health-path", metavar="PATH", help="what an http check asks for (default: /)")
    health.add_argument("--health-interval", metavar="DURATION", help="from one check to the next (default: 5s)")
    health.add_argument("--health-timeout", metavar="DURATION", help="for one check (default: 2s)")
    seen = parser.add_argument_group("what can be seen")
    seen.add_argument(
        "--access-log",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a line for every request, on standard output (default: yes)",
    )
    seen.add_argument(
        "--status-path",
        metavar="PATH",
        default="/lb/status",
        help='where clients on this machine see the state of all backends; "off" for nowhere (default: /lb/status)',
    )
    runtime = parser.add_argument_group("the process")
    common.add_runtime(runtime)
    common.add_app_dir(runtime)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the balancer; returns the exit code."""
    tree = simple_tree(
        args.to,
        listen=args.listen or [_LISTEN],
        strategy=args.strategy,
        sticky=args.sticky,
        health_type=args.health_type,
        health_path=args.health_path,
        health_interval=args.health_interval,
        health_timeout=args.health_timeout,
        timeout=args.timeout,
        retries=args.retries,
        workers=args.workers,
        access_log=args.access_log,
        status_path=None if args.status_path == "off" else args.status_path,
    )
    config = validate(tree, label=_flag_of)
    try_strategies(config, common.app_dir(args), label=_flag_of)
    return common.serve(config, args, None)


_FLAGS: dict[Key, str] = {
    ("pools", POOL, "backends"): "--to",
    ("pools", POOL, "strategy"): "--strategy",
    ("pools", POOL, "retry"): "--retries",
    ("pools", POOL, "timeouts"): "--timeout",
    ("pools", POOL, "health", "type"): "--health-type",
    ("pools", POOL, "health", "path"): "--health-path",
    ("pools", POOL, "health", "interval"): "--health-interval",
    ("pools", POOL, "health", "timeout"): "--health-timeout",
    ("listeners",): "--listen",
}


def _flag_of(key: Key) -> str:
    """The flag that a key of the configuration came from."""
    if key[-1:] == ("status_path",):
        return "--status-path"
    for length in range(len(key), 0, -1):
        flag = _FLAGS.get(key[:length])
        if flag is not None:
            rest = [str(part) for part in key[length:] if isinstance(part, str) and part not in ("url", "bind")]
            return " ".join([flag, *rest]) if flag == "--to" else flag
    return ".".join(str(part) for part in key)
