"""`headgate explain`: where a request would go, or a real one went, and why."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from headgate.cli import common
from headgate.cli.admin_client import add_admin, connect
from headgate.explain import text

_EPILOG = """\
Nothing is sent, and nothing changes: the very next request goes where this says, if none comes before it. With
-c FILE nothing needs to run; every backend is then thought to be up and idle.

examples:
  headgate explain http://shop.example/cart
  headgate explain POST http://shop.example:8080/cart -H 'Cookie: headgate_web=...' --client 192.0.2.7
  headgate explain -c headgate.toml http://shop.example/cart
  headgate explain --id 0e14425c93b2d60b24023e1d4827ae1e

"""


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "explain",
        help="say where a request would go, or went, and why",
        description="Say where a request would go, or a real one went, and why.",
        epilog=_EPILOG + common.EXIT_CODES,
        formatter_class=common.Formatter,
    )
    parser.add_argument("request", nargs="*", metavar="[METHOD] URL", help='such as "GET http://shop.example/cart"')
    parser.add_argument("-H", "--header", action="append", default=[], metavar="LINE", help='"Name: value"; repeatable')
    parser.add_argument("--client", metavar="IP", default="127.0.0.1", help="who connects (default: 127.0.0.1)")
    parser.add_argument(
        "--listener", metavar="BIND", default="", help="which listener is meant (default: the one of the URL's port)"
    )
    parser.add_argument("--id", metavar="ID", help="a real request, by the id of the access log and of X-Request-ID")
    parser.add_argument("-c", "--config", metavar="FILE", help="ask this configuration, not a running balancer")
    common.add_app_dir(parser)
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    add_admin(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Explains; returns the exit code."""
    if args.id is not None:
        if args.request or args.config:
            raise common.UsageError("--id goes without a URL and without -c: it is about a request that was")
        return _real(args)
    method, url = _request(args.request)
    headers = [_header(line) for line in args.header]
    if args.config:
        said = _of_file(args, method, url, headers)
    else:
        body = {"method": method, "url": url, "headers": headers, "client": args.client, "listener": args.listener}
        said = connect(args).post("explain", body=body)
    print(json.dumps(said, indent=2) if args.json else text.explanation(said))
    return common.EXIT_OK


def _real(args: argparse.Namespace) -> int:
    found = connect(args).get("decisions", id=args.id)["decisions"]
    if not found:
        why = "it went well and was not sampled, or it is too long ago, or the balancer was restarted"
        raise common.CommandError(f"no decision about request {args.id} is kept: {why}", common.EXIT_CONFIG)
    print(json.dumps(found, indent=2) if args.json else "\n\n".join(text.decision(one) for one in found))
    return common.EXIT_OK


def _of_file(args: argparse.Namespace, method: str, url: str, headers: list[tuple[str, str]]) -> Any:
    # Imported here: --help and a question to a running balancer need no engine.
    import msgspec

    from headgate.config.load import load
    from headgate.explain.of_file import explain_file
    from headgate.explain.question import Question
    from headgate.runtime.worker import SEED

    question = Question(method=method, url=url, headers=tuple(headers), client=args.client, listener=args.listener)
    config = load(args.config)
    try:
        said = explain_file(config, question, app_dir=common.app_dir(args), seed=os.environ.get(SEED, ""))
    except ValueError as error:
        raise common.UsageError(str(error)) from None
    return msgspec.to_builtins(said)


def _request(words: list[str]) -> tuple[str, str]:
    if len(words) == 1:
        return "GET", words[0]
    if len(words) == 2:
        return words[0], words[1]
    raise common.UsageError('give a request such as "GET http://shop.example/cart", or --id ID')


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        raise common.UsageError(f'-H {line!r}: a header is "Name: value"')
    return name.strip(), value.strip()
