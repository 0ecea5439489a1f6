"""The key that stickiness cookies are signed with when the configuration names none.

It is the same in all workers because the controller hands it out, and the same after a restart because it is kept in a
file; else every restart would send every client to another backend.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger("headgate.control")

_SIZE = 32  # bytes; what SHA-256 can make use of


def state_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where a service keeps state: systemd's STATE_DIRECTORY, /var/lib/headgate for root, else the XDG state home."""
    if given := environment.get("STATE_DIRECTORY"):
        return Path(given.split(":", 1)[0])
    if os.geteuid() == 0:
        return Path("/var/lib/headgate")
    home = environment.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "headgate"


def machine_secret(directory: Path) -> bytes:
    """The secret kept in this directory, made on the first call. One that cannot be kept is still good for this run."""
    path = directory / "sticky-secret"
    with contextlib.suppress(OSError):
        secret = path.read_bytes()
        if len(secret) >= _SIZE:
            return secret
    secret = os.urandom(_SIZE)
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Written aside and linked into place: of two processes that start at once, both use what the first one kept.
        aside = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
        try:
            os.link(aside, path)
        except FileExistsError:
            kept = path.read_bytes()
            if len(kept) >= _SIZE:
                return kept
            os.replace(aside, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(aside)
    except OSError as error:
        log.warning(
            "the secret for sticky cookies cannot be kept in %s (%s): sessions are bound anew after a restart; "
            "set `secret` in the pool's `sticky` table",
            directory,
            error.strerror or error,
        )
    return secret


def pool_secret(configured: str, machine: bytes, pool: str) -> bytes:
    """The key of one pool: what is configured, else one derived from the machine's, so that no two pools share one."""
    if configured:
        return configured.encode()
    return hmac.new(machine, b"sticky " + pool.encode(), hashlib.sha256).digest()
