"""Which certificates a configuration uses, and where: for the status documents, the metrics and reminders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from headgate.config.schema import Config
from headgate.tls import expiry, pairs, x509
from headgate.tls.files import TlsFiles


@dataclass(frozen=True, slots=True)
class Used:
    """A certificate in use. where: "listener :8443" or "pool web" (shown to its backends). file: where it is from."""

    where: str
    file: str
    certificate: x509.Certificate

    @property
    def dated(self) -> expiry.Dated:
        """For reminders."""
        one = self.certificate
        names = ", ".join(one.names[:3]) + (", …" if len(one.names) > 3 else "") or one.subject
        return expiry.Dated(
            f"certificate {self.file} ({names}; {self.where})", one.fingerprint, one.not_before, one.not_after
        )


def used(config: Config, files: TlsFiles) -> list[Used]:
    """All of them, in the order of the configuration."""
    return list(_used(config, files))


def _used(config: Config, files: TlsFiles) -> Iterator[Used]:
    for listener in config.listeners:
        for pair in listener.tls.certificates if listener.tls is not None else ():
            yield from _one(f"listener {listener.bind.text}", pair.cert, files)
    for name, pool in config.pools.items():
        if pool.tls.cert:
            yield from _one(f"pool {name}", pool.tls.cert, files)


def _one(where: str, path: str, files: TlsFiles) -> Iterator[Used]:
    if path in files.content:
        yield Used(where, path, pairs.certificates(files.content[path])[0])


def differences(old: TlsFiles, new: TlsFiles) -> list[tuple[str, str]]:
    """Files that both have and whose content is another: (file, what it is now)."""
    found = []
    for path, data in new.content.items():
        if path in old.content and old.content[path] != data:
            found.append((path, _describe(data)))
    return found


def _describe(data: bytes) -> str:
    try:
        one = pairs.certificates(data)[0]
    except ValueError:
        return "is another one"
    return f"is another one, for {', '.join(one.names) or one.subject}, until {one.not_after:%Y-%m-%d}"
