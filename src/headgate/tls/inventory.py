"""Which certificates a configuration uses, and where: for the status documents, the metrics and reminders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from headgate.config.schema import Config
from headgate.tls import expiry, pairs, x509
from headgate.tls.files import TlsFiles

_ALWAYS = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Used:
    """A certificate in use. where: "listener :8443" or "pool web" (shown to its backends). file: where it is from."""

    where: str
    file: str
    certificate: x509.Certificate


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


def dated(config: Config, files: TlsFiles) -> Iterator[expiry.Dated]:
    """Everything whose end matters: besides the certificates in use those that signed them, authorities that are
    trusted, and revocation lists (one that was not renewed has all clients refused)."""
    for one in used(config, files):
        yield _dated(f"certificate {one.file} ({_names(one.certificate)}; {one.where})", one.certificate)
        for number, above in enumerate(pairs.certificates(files.content[one.file])[1:], 2):
            yield _dated(f"certificate {number} in {one.file} ({above.subject}; {one.where})", above)
    for listener in config.listeners:
        if listener.tls is not None:
            yield from _authorities(listener.tls.client_ca, files)
            yield from _revocation_lists(listener.tls.client_crl, files)
    for pool in config.pools.values():
        yield from _authorities(pool.tls.ca, files)


def _names(one: x509.Certificate) -> str:
    return ", ".join(one.names[:3]) + (", …" if len(one.names) > 3 else "") or one.subject


def _dated(what: str, one: x509.Certificate) -> expiry.Dated:
    return expiry.Dated(what, one.fingerprint, one.not_before, one.not_after)


def _authorities(path: str, files: TlsFiles) -> Iterator[expiry.Dated]:
    for one in pairs.certificates(files.content[path]) if path in files.content else ():
        yield _dated(f"authority {one.subject} in {path}", one)


def _revocation_lists(path: str, files: TlsFiles) -> Iterator[expiry.Dated]:
    for one in pairs.revocation_lists(files.content[path]) if path in files.content else ():
        if one.next_update is not None:
            what = f"revocation list of {one.issuer} in {path}"
            # Such lists live for days: fourteen before its end each would be about to end.
            yield expiry.Dated(what, f"{path} {one.issuer}", _ALWAYS, one.next_update, timedelta(days=1))


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
