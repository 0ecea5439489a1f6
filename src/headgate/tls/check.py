"""What is wrong with the certificates and keys of a configuration: what cannot work (`read` raises it), and what will
not work for some clients, or not for long (`warnings`)."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from headgate.config.problems import Key, key_text
from headgate.config.schema import Config, Listener
from headgate.config.tls import ListenerTls, PoolTls
from headgate.tls import contexts, files, pairs, pem, x509
from headgate.tls.expiry import describe
from headgate.tls.sni import Chooser


class Finding(NamedTuple):
    """Something that is wrong, at a key of the configuration. suggestion: how to mend it, "" where that is plain."""

    key: Key
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        hint = f" ({self.suggestion})" if self.suggestion else ""
        return f"{key_text(self.key)}: {self.message}{hint}"


class Problems(ValueError):
    """Files that cannot be used, all of them: one a line."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = findings


def read(config: Config, known: files.TlsFiles | None = None) -> files.TlsFiles:
    """The files of a configuration, read and looked over. known: files that need not be read again.

    Raises Problems, with everything that is wrong.
    """
    content: dict[str, bytes] = {}
    found: list[Finding] = []
    for key, path in files.named(config):
        try:
            if path not in content:
                before = None if known is None else known.content.get(path)
                content[path] = files.read_one(path) if before is None else before
        except OSError as error:
            found.append(Finding(key, f"{path} cannot be read: {error.strerror or error}"))
    got = files.TlsFiles(content)
    found += examine(config, got)
    if found:
        raise Problems(found)
    return got


def examine(config: Config, got: files.TlsFiles) -> list[Finding]:
    """What is wrong with these files. Those that are not there are passed over."""
    found: list[Finding] = []
    for number, listener in enumerate(config.listeners):
        if listener.tls is not None:
            found += _listener(listener.tls, got, ("listeners", number, "tls"))
    for name, pool in config.pools.items():
        if pool.tls != _PLAIN:
            found += _pool(pool.tls, got, ("pools", name, "tls"))
    return found


_PLAIN = PoolTls()


def _listener(tls: ListenerTls, got: files.TlsFiles, key: Key) -> list[Finding]:
    found: list[Finding] = []
    for place, certificate in enumerate(tls.certificates):
        found += _pair(certificate.cert, certificate.key, got, (*key, "certificates", place))
    found += _authorities(tls.client_ca, got, (*key, "client_ca"))
    if tls.client_crl in got.content:
        try:
            pairs.revocation_lists(got.content[tls.client_crl])
        except pem.PemError as error:
            found.append(Finding((*key, "client_crl"), f"{tls.client_crl} {error}"))
    if not found and tls.certificates and all(path in got.content for path in _paths(tls)):
        try:
            contexts.listener_context(tls, got)
        except ValueError as error:
            found.append(Finding(key, str(error)))
        except OSError as error:  # what OpenSSL finds in the whole, and not in its parts
            found.append(Finding(key, f"OpenSSL refuses it: {getattr(error, 'reason', None) or error}"))
    return found


def _paths(tls: ListenerTls) -> list[str]:
    paths = [path for one in tls.certificates for path in (one.cert, one.key_file)]
    return [*paths, *(path for path in (tls.client_ca, tls.client_crl) if path)]


def _pool(tls: PoolTls, got: files.TlsFiles, key: Key) -> list[Finding]:
    found = _authorities(tls.ca, got, (*key, "ca"))
    if tls.cert:
        found += _pair(tls.cert, tls.key, got, key)
    return found


def _authorities(path: str, got: files.TlsFiles, key: Key) -> list[Finding]:
    if path not in got.content:
        return []
    try:
        context = contexts.empty()
        contexts.load_authorities(context, got.content[path])
    except pem.PemError as error:
        return [Finding(key, f"{path} {error}")]
    return []


def _pair(cert: str, key_path: str, got: files.TlsFiles, key: Key) -> list[Finding]:
    key_file = key_path or cert
    if cert not in got.content:
        return []
    try:
        if key_file in got.content:
            pairs.load(contexts.empty(), got.content[cert], got.content[key_file])
        else:
            pairs.certificates(got.content[cert])
    except pem.PemError as error:
        return [Finding((*key, "cert"), f"{cert} {error}")]
    except pairs.BadPair as error:
        at = "key" if error.at == "key" and key_path else "cert"
        path = key_file if error.at == "key" else cert
        return [Finding((*key, at), f"{path} {error}", error.suggestion)]
    return []


# What works, but not for all or not for long


def warnings(config: Config, got: files.TlsFiles, now: datetime) -> Iterator[Finding]:
    """For a configuration without problems. now: with its time zone."""
    for number, listener in enumerate(config.listeners):
        if listener.tls is not None:
            yield from _listener_warnings(config, listener, listener.tls, got, now, ("listeners", number, "tls"))
    for name, pool in config.pools.items():
        key: Key = ("pools", name, "tls")
        if pool.tls.cert:
            yield from _chain_warnings(pool.tls.cert, got, now, (*key, "cert"))
            yield from _mode_warning(pool.tls.key_file, (*key, "key"))
        if not any(backend.url.tls for backend in pool.backends):
            continue
        if not pool.tls.verify:
            yield Finding((*key, "verify"), unverified(name))
        elif not pool.tls.ca and not contexts.has_system_authorities():
            yield Finding((*key, "ca"), "is not set, and this system has no certificate authorities", "name a ca")


def unverified(pool: str) -> str:
    """What is said of a pool with `verify = false`, at every start."""
    return (
        f"pool {pool}: certificates of its backends are not verified (verify = false); "
        "whoever is on the way can read and change everything"
    )


def _listener_warnings(
    config: Config, listener: Listener, tls: ListenerTls, got: files.TlsFiles, now: datetime, key: Key
) -> Iterator[Finding]:
    leaves = []
    for place, certificate in enumerate(tls.certificates):
        where = (*key, "certificates", place)
        leaves.append(pairs.certificates(got.content[certificate.cert])[0])
        yield from _chain_warnings(certificate.cert, got, now, (*where, "cert"))
        yield from _mode_warning(certificate.key_file, (*where, "key"))
        if not leaves[-1].names:
            yield Finding((*where, "cert"), f"{certificate.cert} is for no name at all: it has no alternative names")
    for place in Chooser(leaves).unused:
        path = tls.certificates[place].cert
        yield Finding((*key, "certificates", place), f"{path} is never used: all its names belong to others before it")
    yield from _name_warnings(config, listener, leaves, key)
    if tls.client_crl:
        yield from _revocation_warnings(tls, got, now, key)


def _name_warnings(config: Config, listener: Listener, leaves: list[x509.Certificate], key: Key) -> Iterator[Finding]:
    for number, route in enumerate(config.routes):
        if route.host is None or route.listener not in (None, listener.bind.text):
            continue
        host = route.host.strip("[]")
        if not any(leaf.is_for(host) for leaf in leaves):
            message = f"no certificate of {key_text(key)} is for {route.host}"
            yield Finding(("routes", number, "host"), message, "its clients get the first one, and refuse it")


def _chain_warnings(path: str, got: files.TlsFiles, now: datetime, key: Key) -> Iterator[Finding]:
    chain = pairs.certificates(got.content[path])
    for place, one in enumerate(chain):
        which = path if place == 0 else f"{path}, certificate {place + 1} ({one.subject})"
        if text := describe(which, one.not_before, one.not_after, now):
            yield Finding(key, text)
    for place, (one, above) in enumerate(itertools.pairwise(chain)):
        if not one.issued_by(above):
            message = (
                f"{path}: certificate {place + 2} ({above.subject}) did not sign certificate {place + 1}, "
                f"which {one.issuer} did"
            )
            yield Finding(key, message, "the server's own comes first, then each one's issuer")


def _revocation_warnings(tls: ListenerTls, got: files.TlsFiles, now: datetime, key: Key) -> Iterator[Finding]:
    lists = pairs.revocation_lists(got.content[tls.client_crl])
    for one in lists:
        if one.next_update is not None and one.next_update <= now:
            message = (
                f"{tls.client_crl}: the list of {one.issuer} should have been renewed on {one.next_update:%Y-%m-%d}"
            )
            yield Finding((*key, "client_crl"), message, "clients of that authority are refused")
    issuers = {one.issuer_der for one in lists}
    for authority in pairs.certificates(got.content[tls.client_ca]):
        if authority.is_ca and authority.subject_der not in issuers:
            message = f"{tls.client_crl} has no list of {authority.subject}"
            yield Finding((*key, "client_crl"), message, "clients with its certificates are refused")


def _mode_warning(path: str, key: Key) -> Iterator[Finding]:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if mode & stat.S_IROTH:
        yield Finding(key, f"{path} can be read by everybody on this machine", f"chmod o= {path}")
