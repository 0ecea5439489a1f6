"""How the commands reach a running balancer: where it is, with which token, one request and its answer."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headgate.cli.common import EXIT_CONFIG, EXIT_ERROR, EXIT_UNREACHABLE, CommandError, UsageError


def add_admin(parser: argparse.ArgumentParser) -> None:
    """--admin, --token and --token-file."""
    group = parser.add_argument_group("the balancer to ask")
    group.add_argument(
        "--admin",
        metavar="ADDRESS",
        help='"unix:PATH" or "http://127.0.0.1:9900" (default: $HEADGATE_ADMIN, else the one balancer of this user'
        " that runs here)",
    )
    group.add_argument(
        "--token",
        metavar="TOKEN",
        help="for an address on TCP; others on this machine can see it in the list of processes, so rather use"
        " $HEADGATE_TOKEN or --token-file",
    )
    group.add_argument(
        "--token-file", metavar="FILE", help="a file that holds the token (default: $HEADGATE_TOKEN_FILE)"
    )


class Connection:
    """One running balancer."""

    def __init__(self, address: str, token: str = "") -> None:
        self.address = address
        self._token = token

    def get(self, *parts: str, **query: object) -> Any:
        """The JSON at a path. Its parts are encoded here."""
        text = f"?{urllib.parse.urlencode(query)}" if query else ""
        return self.ask("GET", _path(parts) + text)

    def post(self, *parts: str, body: object = None) -> Any:
        """POST, with a JSON body where one is given."""
        return self.ask("POST", _path(parts), body)

    def put(self, *parts: str, body: object) -> Any:
        """PUT with a JSON body."""
        return self.ask("PUT", _path(parts), body)

    def delete(self, *parts: str) -> Any:
        """DELETE."""
        return self.ask("DELETE", _path(parts))

    def ask(self, method: str, target: str, body: object = None) -> Any:
        """One request; its answer's JSON. Raises CommandError, with the text and the exit code for it."""
        # Imported here: `headgate run` has this file in memory, too, and asks nobody.
        from headgate.cli.admin_connection import HTTPException, open_connection

        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        connection = open_connection(self.address)
        try:
            connection.request(method, target, data, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CommandError(f"no balancer answers at {self.address}: {why}", EXIT_UNREACHABLE) from None
        finally:
            connection.close()
        return _result(self.address, response.status, content)


def connect(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Connection:
    """The balancer that the flags, the environment or the default mean. Raises CommandError, UsageError."""
    token = _token(args, environ)
    address = args.admin or environ.get("HEADGATE_ADMIN") or _only_one()
    return Connection(_normal(address), token)


def _token(args: argparse.Namespace, environ: Mapping[str, str]) -> str:
    if args.token:
        return str(args.token)
    if not args.token_file and environ.get("HEADGATE_TOKEN"):
        return environ["HEADGATE_TOKEN"]
    path = args.token_file or environ.get("HEADGATE_TOKEN_FILE")
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the token file {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _only_one() -> str:
    from headgate.admin.place import directory, running

    found = running()
    if len(found) == 1:
        return f"unix:{found[0]}"
    if not found:
        text = f"no balancer of this user runs here (no socket in {directory()}); name one with --admin"
        raise CommandError(text, EXIT_UNREACHABLE)
    lines = "".join(f"\n  --admin unix:{path}{_about(path)}" for path in found)
    raise CommandError(f"several balancers run here, say which:{lines}", EXIT_UNREACHABLE)


def _about(path: Path) -> str:
    with contextlib.suppress(CommandError):
        status = Connection(f"unix:{path}").get("status")
        return f"  (process {status['pid']}{', ' + status['configFile'] if status['configFile'] else ''})"
    return ""


def _normal(address: str) -> str:
    if address.startswith(("unix:", "http://", "https://")):
        return address.rstrip("/") if not address.startswith("unix:") else address
    if address.startswith("/"):
        return f"unix:{address}"
    if "://" in address:
        raise UsageError(f"--admin: {address} is neither unix:PATH nor http://HOST:PORT")
    return f"http://{address}"


def _path(parts: tuple[str, ...]) -> str:
    return "/" + "/".join(urllib.parse.quote(part, safe="") for part in parts)


# What a refusal means for a script: exit codes of ours by status.
_EXITS = {400: EXIT_CONFIG, 404: EXIT_CONFIG, 409: EXIT_CONFIG, 422: EXIT_CONFIG, 401: EXIT_UNREACHABLE}


def _result(address: str, status: int, content: bytes) -> Any:
    try:
        document = json.loads(content) if content else None
    except ValueError:
        document = None
    if 200 <= status < 300 and document is not None:
        return document
    if not isinstance(document, dict) or "reason" not in document:
        raise CommandError(f"{address} is not a balancer's admin API (it answered {status})", EXIT_UNREACHABLE)
    if status == 401:
        hint = "set HEADGATE_TOKEN or use --token-file" if document["error"] == "token_missing" else "it is another one"
        raise CommandError(f"the balancer at {address} asks for its token: {hint}", EXIT_UNREACHABLE)
    problems = document.get("problems") or [document["reason"]]
    raise CommandError("\n".join(problems), _EXITS.get(status, EXIT_ERROR))
