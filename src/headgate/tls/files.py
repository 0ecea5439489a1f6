"""The files that a configuration names for TLS, and their bytes.

The supervisor reads them, and workers get the bytes with the snapshot: all have the same pair, at the same moment, and
need no right to read them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from headgate.config.problems import Key
from headgate.config.schema import Config

# The store of a whole system has 200 KiB; a wrong path may be a disk.
_LARGEST = 16 * 2**20


class Named(NamedTuple):
    """A file, and the key that names it."""

    key: Key
    path: str


class TlsFiles(msgspec.Struct, frozen=True):
    """The bytes of files by path, private keys among them: never to be shown."""

    content: dict[str, bytes] = {}

    def __repr__(self) -> str:
        """Without the bytes, since objects end up in logs and bug reports."""
        return f"TlsFiles({len(self.content)} files)"


NONE = TlsFiles()


def named(config: Config) -> Iterator[Named]:
    """All files. A listener's key has its place among the listeners."""
    for number, listener in enumerate(config.listeners):
        if (tls := listener.tls) is None:
            continue
        key: Key = ("listeners", number, "tls")
        for place, certificate in enumerate(tls.certificates):
            yield Named((*key, "certificates", place, "cert"), certificate.cert)
            if certificate.key:
                yield Named((*key, "certificates", place, "key"), certificate.key)
        for name in ("client_ca", "client_crl"):
            if path := getattr(tls, name):
                yield Named((*key, name), path)
    for pool_name, pool in config.pools.items():
        for name in ("ca", "cert", "key"):
            if path := getattr(pool.tls, name):
                yield Named(("pools", pool_name, "tls", name), path)


def read_one(path: str) -> bytes:
    """The bytes of a file. Raises OSError."""
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST)
    except ValueError:  # a NUL in its name
        raise OSError(0, "not a file name") from None


@contextlib.contextmanager
def as_path(data: bytes) -> Iterator[str]:
    """A path under which OpenSSL can read these bytes meanwhile: `ssl` takes keys from files only. Of memory, not of a
    disk."""
    fd = os.memfd_create("headgate-tls", os.MFD_CLOEXEC)
    try:
        written = memoryview(data)
        while written:
            written = written[os.write(fd, written) :]
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
