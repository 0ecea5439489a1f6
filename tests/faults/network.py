"""A network of one's own: what `unshare`, `ip`, `iptables` and `tc` do for a row.

A row runs as root of its network, process and mount namespace: what it drops or exhausts is nobody else's, and when it
ends the kernel ends whatever it left running. Not root? Then a user namespace makes it root of these alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_SBIN = "/usr/sbin:/sbin:/usr/local/sbin"

TOOLS = ("unshare", "ip", "tc", "iptables")


def tool(name: str) -> str | None:
    """Path of a program; Debian keeps these where a user's PATH does not look."""
    return shutil.which(name) or shutil.which(name, path=_SBIN)


def enclosed(argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` in new namespaces; all its descendants die with it."""
    unshare = tool("unshare") or "unshare"
    rootless = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return [unshare, *rootless, "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--", *argv]


def missing() -> str | None:
    """Why rows cannot run on this machine, or None."""
    absent = [name for name in TOOLS if tool(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    script = "ip link set lo up"
    script += " && iptables -w -A INPUT -p tcp --dport 1 -m statistic --mode random --probability 0.5 -j DROP"
    script += " && tc qdisc add dev lo root tbf rate 1mbit burst 10kb latency 50ms"
    tried = subprocess.run(enclosed(["sh", "-c", script]), capture_output=True, text=True, env=_environment())
    return f"namespaces or packet filters are not permitted: {tried.stderr.strip()}" if tried.returncode else None


def _environment() -> dict[str, str]:
    # The lock of iptables is a file that an ordinary user may not write; namespaces make one of their own needless.
    path = f"{os.environ.get('PATH', '')}:{_SBIN}"
    return {**os.environ, "PATH": path, "XTABLES_LOCKFILE": "/tmp/headgate-xtables.lock"}


def command(*words: object) -> None:
    """Run a program of the network's; CalledProcessError says why it failed."""
    argv = [str(word) for word in words]
    argv[0] = tool(argv[0]) or argv[0]
    done = subprocess.run(argv, capture_output=True, text=True, env=_environment())
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr.strip()}"


def loopback_up() -> None:
    command("ip", "link", "set", "lo", "up")


def drop_new_connections(port: int) -> None:
    """Whoever connects to this port hears nothing (SYN blackhole)."""
    command("iptables", "-w", "-A", "INPUT", "-p", "tcp", "--syn", "--dport", port, "-j", "DROP")


def admit_new_connections(port: int) -> None:
    """Undo `drop_new_connections`."""
    command("iptables", "-w", "-D", "INPUT", "-p", "tcp", "--syn", "--dport", port, "-j", "DROP")


def lose(share: float) -> None:
    """Every TCP packet in this namespace gets lost with this probability."""
    rule = ("-m", "statistic", "--mode", "random", "--probability", share, "-j", "DROP")
    command("iptables", "-w", "-A", "INPUT", "-p", "tcp", *rule)


def lose_nothing() -> None:
    """Undo every rule."""
    command("iptables", "-w", "-F", "INPUT")


def ephemeral_ports(first: int, count: int) -> None:
    """Only these local ports are given to outgoing connections from now on."""
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(f"{first} {first + count - 1}\n")


def slow_link(name: str, pid: int, here: str, there: str, rate: str) -> None:
    """A link from this namespace (address `here`) to that of process `pid` (`there`); what leaves here has `rate`."""
    command("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}-peer", "netns", pid)
    command("ip", "address", "add", f"{here}/24", "dev", name)
    command("ip", "link", "set", name, "up")
    # What waits at the narrow place is bounded by time: 200 ms of it, as in a home router.
    command("tc", "qdisc", "add", "dev", name, "root", "tbf", "rate", rate, "burst", "16kb", "latency", "200ms")
    enter = (tool("nsenter") or "nsenter", "--target", pid, "--net", "--")
    ip = tool("ip")
    command(*enter, ip, "link", "set", "lo", "up")
    command(*enter, ip, "address", "add", f"{there}/24", "dev", f"{name}-peer")
    command(*enter, ip, "link", "set", f"{name}-peer", "up")
