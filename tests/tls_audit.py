"""Scanners look at Headgate and at nginx, side by side, with the same certificates and on the same OpenSSL.

`python -m tests.tls_audit` (make tls-audit) runs testssl.sh against both, some minutes each, and prints what it finds
worse than "OK" or "INFO"; exit code 1 when that is more at Headgate than at nginx. sslyze does its part in the ordinary
tests (tests/e2e/test_tls_scanners.py).
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import pki
from tests.e2e.harness import nginx
from tests.e2e.harness.headgate import Headgate, pool
from tests.e2e.harness.ports import HeldPort
from tests.e2e.harness.processes import Processes
from tests.e2e.harness.tools import require
from tests.e2e.harness.waiting import eventually

NAME = "a.example"
HSTS = "63072000"

# Mozilla's intermediate configuration for nginx; HTTP/1.1, as we have it.
_NGINX = """\
    server_tokens off;
    server {{
        listen {bind} ssl;
        ssl_certificate {ec[0]};
        ssl_certificate_key {ec[1]};
        ssl_certificate {rsa[0]};
        ssl_certificate_key {rsa[1]};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:\
ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305;
        ssl_prefer_server_ciphers off;
        ssl_session_cache shared:all:1m;
        add_header Strict-Transport-Security "max-age={hsts}" always;
        location / {{ return 200 "nginx"; }}
    }}
"""


class Both:
    """Both run until `processes` end. headgate, nginx: where."""

    def __init__(self, processes: Processes, directory: Path, backend: str) -> None:
        self.root = pki.Authority()
        ec = self.root.issue(NAME, days=90).write(directory, "ec")
        rsa = self.root.issue(NAME, key="rsa", days=90).write(directory, "rsa")
        self.headgate, self.nginx = HeldPort(), HeldPort()
        http = _NGINX.format(bind=self.nginx.bind, ec=ec, rsa=rsa, hsts=HSTS)
        other = processes.start(nginx.command(directory, http))
        certificates = [{"cert": cert, "key": key} for cert, key in (ec, rsa)]
        listener = {"bind": self.headgate.bind, "tls": {"certificates": certificates, "hsts": int(HSTS)}}
        config = {"listeners": [listener], "pools": {"web": pool(backend)}, "access_log": {"format": "off"}}
        Headgate.run(processes, directory, config, self.headgate)
        eventually(lambda: self.nginx.accepts() or not other.running, "nginx to listen")
        assert other.running, (directory / "error.log").read_text()

    def close(self) -> None:
        self.headgate.close()
        self.nginx.close()


def testssl(port: HeldPort, directory: Path, name: str) -> dict[str, str]:
    """What testssl.sh finds worse than "INFO": id -> severity and text."""
    out = directory / f"{name}.csv"
    command = ["testssl", "--quiet", "--color", "0", "--warnings", "batch", "--csvfile", str(out)]
    done = subprocess.run(
        [*command, "--ip", port.host, f"https://{NAME}:{port.number}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    # The part that comes last. Without it something went wrong, and what is missing would look fine.
    if not any(row["id"].startswith("clientsimulation") for row in rows):
        raise SystemExit(f"testssl did not come to its end ({done.returncode}):\n{done.stdout}\n{done.stderr}")
    return {row["id"]: f"{row['severity']}: {row['finding']}" for row in rows if row["severity"] not in ("OK", "INFO")}


def main() -> int:
    """Prints a table; returns the exit code."""
    from tests.e2e.harness.backends import Backend

    require("testssl")
    with tempfile.TemporaryDirectory() as made, Processes() as processes, Backend() as backend:
        both = Both(processes, Path(made), backend.url)
        try:
            ours = testssl(both.headgate, Path(made), "headgate")
            theirs = testssl(both.nginx, Path(made), "nginx")
        finally:
            processes.close()
            both.close()
    for name in sorted(ours.keys() | theirs.keys()):
        print(f"{name}\n    headgate {ours.get(name, 'fine')}\n    nginx    {theirs.get(name, 'fine')}")
    more = sorted(name for name in ours if _severity(ours[name]) > _severity(theirs.get(name, "")))
    print(f"\n{len(ours)} findings at headgate, {len(theirs)} at nginx; worse than nginx: {', '.join(more) or 'none'}")
    return bool(more)


_SEVERITIES = ("", "WARN", "LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL")


def _severity(finding: str) -> int:
    return _SEVERITIES.index(finding.partition(":")[0])


if __name__ == "__main__":
    sys.exit(main())
