"""sslyze finds nothing at Headgate that it does not find at nginx, on the same OpenSSL (testssl.sh: make tls-audit)."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

from tests.tls_audit import NAME, Both

from .conftest import MakeBackend
from .harness.ports import HeldPort
from .harness.processes import Processes

SCANS = (
    *(f"{version}_cipher_suites" for version in ("ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3")),
    "tls_compression",
    "tls_1_3_early_data",
    "openssl_ccs_injection",
    "heartbleed",
    "robot",
    "session_renegotiation",
    "elliptic_curves",
    "tls_extended_master_secret",
)


def scan(ports: dict[str, HeldPort]) -> dict[str, Any]:
    """What sslyze says of each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sslyze: Any = importlib.import_module("sslyze")  # takes a second, and does not say what it exports
        commands = {sslyze.ScanCommand(name) for name in SCANS}
        scanner = sslyze.Scanner()
        scanner.queue_scans(
            [
                sslyze.ServerScanRequest(
                    sslyze.ServerNetworkLocation(hostname=NAME, port=port.number, ip_address=port.host),
                    scan_commands=commands,
                )
                for port in ports.values()
            ]
        )
        names = {port.number: name for name, port in ports.items()}
        return {names[result.server_location.port]: result.scan_result for result in scanner.get_results()}


def findings(result: Any) -> set[str]:
    """Everything that a server accepts, or is vulnerable to."""
    assert result is not None, "sslyze could not connect"
    found = set()
    for name in SCANS:
        attempt = getattr(result, name)
        assert attempt.result is not None, f"{name}: {attempt.error_reason} {attempt.error_trace}"
        answer = attempt.result
        if name.endswith("_cipher_suites"):
            found |= {f"{name} {suite.cipher_suite.name}" for suite in answer.accepted_cipher_suites}
        elif name == "elliptic_curves":
            found |= {f"curve {curve.name}" for curve in answer.supported_curves or ()}
        elif name == "robot":
            if "NOT_VULNERABLE" not in answer.robot_result.name:
                found.add(f"robot {answer.robot_result.name}")
        elif name == "session_renegotiation":
            if answer.is_vulnerable_to_client_renegotiation_dos:
                found.add("renegotiation by clients")
            if not answer.supports_secure_renegotiation:
                found.add("no secure renegotiation")
        elif name == "tls_extended_master_secret":
            if not answer.supports_ems_extension:
                found.add("no extended master secret")
        else:
            found |= {
                f"{name}.{attribute}"
                for attribute in (
                    "supports_compression",
                    "supports_early_data",
                    "is_vulnerable_to_ccs_injection",
                    "is_vulnerable_to_heartbleed",
                )
                if getattr(answer, attribute, False)
            }
    return found


def test_no_finding_above_nginx(processes: Processes, tmp_path: Path, make_backend: MakeBackend) -> None:
    both = Both(processes, tmp_path, make_backend().url)
    try:
        results = scan({"headgate": both.headgate, "nginx": both.nginx})
    finally:
        both.close()
    ours, theirs = findings(results["headgate"]), findings(results["nginx"])
    assert ours - theirs == set()
    spoken = {finding.partition(" ")[0] for finding in ours if "cipher_suites" in finding}
    assert spoken == {"tls_1_2_cipher_suites", "tls_1_3_cipher_suites"}
    suites = {finding.partition(" ")[2] for finding in ours if finding.startswith("tls_1_2")}
    assert suites == {finding.partition(" ")[2] for finding in theirs if finding.startswith("tls_1_2")}
    assert len(suites) == 6
