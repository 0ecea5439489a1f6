"""Records what a real nginx does, for the tests of smooth weighted round robin and of the ketama-compatible ring.

Run with `python tests/golden/balancing/record.py`; it needs nginx (NGINX=/path/to/nginx for another one) and writes
nginx.json beside itself. No backend is needed: nobody listens on port 1 of the addresses used, nginx answers 502 and a
header says whom it had chosen. `max_fails=0` keeps it from drawing conclusions.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NGINX = os.environ.get("NGINX", "nginx")
WEIGHTS = [[5, 1, 1], [1, 1, 1], [4, 3, 2], [1, 2, 3, 4, 5], [10, 1], [7, 7, 3, 1]]
RINGS = [[1, 1, 1], [1, 2, 5], [1] * 10, [20, 1, 3, 3]]
KEYS = 400
# Names in the forms that nginx takes apart in different ways.
SERVERS = ["127.0.1.{}:1", "unix:/nobody/listens/here-{}.sock"]


def main() -> int:
    nginx = shutil.which(NGINX) or ("/usr/sbin/nginx" if os.path.exists("/usr/sbin/nginx") else None)
    if nginx is None:
        print("no nginx found", file=sys.stderr)
        return 1
    version = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True).stderr.strip()
    rounds: list[dict[str, list[Any]]] = [
        {"weights": weights, "servers": _servers(SERVERS[0], weights)} for weights in WEIGHTS
    ]
    rings: list[dict[str, list[Any]]] = [
        {"weights": weights, "servers": _servers(form, weights)} for weights in RINGS for form in SERVERS
    ]
    with tempfile.TemporaryDirectory() as directory, socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        reserved.close()
        Path(directory, "nginx.conf").write_text(_conf(directory, port, rounds, rings))
        process = subprocess.Popen([nginx, "-p", directory, "-c", f"{directory}/nginx.conf", "-e", "stderr"])
        try:
            connection = _connect(port)
            recorded = {
                "nginx": version,
                "smooth": [
                    {**entry, "picks": [_ask(connection, f"/smooth/{i}", entry["servers"]) for _ in range(60)]}
                    for i, entry in enumerate(rounds)
                ],
                "ketama": [
                    {
                        **entry,
                        "picks": [_ask(connection, f"/ring/{i}?k=key-{k}", entry["servers"]) for k in range(KEYS)],
                    }
                    for i, entry in enumerate(rings)
                ],
            }
        finally:
            process.terminate()
            process.wait()
    target = Path(__file__).with_name("nginx.json")
    target.write_text(json.dumps(recorded, separators=(",", ":")).replace('{"weights"', '\n{"weights"') + "\n")
    print(f"{target}: {version}")
    return 0


def _servers(form: str, weights: list[int]) -> list[str]:
    return [form.format(number + 1) for number in range(len(weights))]


def _conf(directory: str, port: int, rounds: list[dict[str, list[Any]]], rings: list[dict[str, list[Any]]]) -> str:
    upstreams, locations = [], []
    for kind, entries, method in (("smooth", rounds, ""), ("ring", rings, "hash $arg_k consistent;")):
        for i, entry in enumerate(entries):
            servers = " ".join(
                f"server {server} weight={weight} max_fails=0;"
                for server, weight in zip(entry["servers"], entry["weights"], strict=True)
            )
            upstreams.append(f"upstream {kind}{i} {{ {method} {servers} }}")
            locations.append(f"location = /{kind}/{i} {{ proxy_pass http://{kind}{i}; }}")
    return "\n".join(
        [
            f"daemon off; master_process off; pid {directory}/pid; error_log stderr emerg;",
            "events { worker_connections 64; }",
            "http { access_log off; proxy_next_upstream off; keepalive_requests 100000;",
            *(f"{name}_temp_path {directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")),
            *upstreams,
            f"server {{ listen 127.0.0.1:{port}; add_header X-Chosen $upstream_addr always;",
            *locations,
            "} }",
        ]
    )


def _connect(port: int) -> http.client.HTTPConnection:
    for _ in range(200):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.connect()
        except OSError:
            time.sleep(0.05)  # nginx has no way to say that it listens
        else:
            return connection
    raise SystemExit("nginx did not come up")


def _ask(connection: http.client.HTTPConnection, path: str, servers: list[str]) -> int:
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    return servers.index(response.headers["X-Chosen"].split(", ")[0])


if __name__ == "__main__":
    sys.exit(main())
