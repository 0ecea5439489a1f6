"""A certificate with its chain and its key: reading, and loading into a context. Says what is wrong in plain words."""

from __future__ import annotations

import functools
import ssl
from typing import Literal

from headgate.tls import pem, x509
from headgate.tls.der import DerError
from headgate.tls.files import as_path

# The last: there is a key of one kind, and a certificate for one of another kind only.
_MISMATCH = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
_REASONS = {
    "EE_KEY_TOO_SMALL": "its key is too short for OpenSSL's security level (RSA: 2048 bits at least)",
    "CA_KEY_TOO_SMALL": "a key in its chain is too short for OpenSSL's security level (RSA: 2048 bits at least)",
    "CA_MD_TOO_WEAK": "it, or one of its chain, is signed with a hash that OpenSSL does not take any more (MD5, SHA-1)",
    "UNKNOWN_CERTIFICATE_TYPE": "its key is of a kind that TLS does not know",
}


# The same ones are asked for again and again: by checks, contexts, status documents. (Never a key.)
_parse = functools.lru_cache(maxsize=4096)(x509.parse)


class BadPair(ValueError):
    """Cannot be used. at: which of the two files the text is about; it completes "FILE …"."""

    def __init__(self, at: Literal["cert", "key"], text: str, suggestion: str = "") -> None:
        super().__init__(text)
        self.at: Literal["cert", "key"] = at
        self.suggestion = suggestion


def certificates(data: bytes) -> list[x509.Certificate]:
    """All certificates of a PEM file, in their order; at least one. Raises PemError."""
    blocks = pem.blocks(data)
    found = []
    for block in blocks:
        if block.label in pem.CERTIFICATE:
            try:
                found.append(_parse(block.der))
            except DerError as error:
                raise pem.PemError(f"has a certificate (no. {len(found) + 1}) that cannot be read: {error}") from None
    if not found:
        raise pem.PemError(f"has no certificate, only {', '.join(dict.fromkeys(block.label for block in blocks))}")
    return found


def revocation_lists(data: bytes) -> list[x509.RevocationList]:
    """All revocation lists of a PEM file; at least one. Raises PemError."""
    blocks = pem.blocks(data)
    found = []
    for block in blocks:
        if block.label in pem.REVOCATION_LIST:
            try:
                found.append(x509.parse_revocation_list(block.der))
            except DerError as error:
                raise pem.PemError(f"has a revocation list that cannot be read: {error}") from None
    if not found:
        raise pem.PemError(f"has no revocation list, only {', '.join(dict.fromkeys(block.label for block in blocks))}")
    return found


def load(context: ssl.SSLContext, cert: bytes, key: bytes) -> list[x509.Certificate]:
    """Put a pair into a context; returns the chain, the server's own certificate first. Raises BadPair."""
    try:
        chain = certificates(cert)
    except pem.PemError as error:
        hint = "are cert and key the wrong way round?" if b"PRIVATE KEY-----" in cert and cert != key else ""
        raise BadPair("cert", str(error), hint) from None
    try:
        keys = [block for block in pem.blocks(key) if block.label.endswith("PRIVATE KEY")]
    except pem.PemError as error:
        raise BadPair("key", str(error)) from None
    if not keys:
        raise BadPair("key", "has no private key")
    if keys[0].encrypted:
        raise BadPair(
            "key", "is encrypted, and nobody is there to type its passphrase", "openssl pkey -in FILE -out NEW"
        )
    try:
        with as_path(cert) as cert_path, as_path(key) as key_path:
            # OpenSSL would ask at the terminal for a passphrase, if it thought that it needs one.
            context.load_cert_chain(cert_path, key_path, password=lambda: b"")
    except ssl.SSLError as error:
        reason = error.reason or ""
        if reason in _MISMATCH:
            raise BadPair("key", "does not belong to the certificate") from None
        if reason in _REASONS:
            raise BadPair("cert", f"cannot be used: {_REASONS[reason]}") from None
        raise BadPair("key", f"cannot be used: {_words(error)}") from None
    return chain


def _words(error: ssl.SSLError) -> str:
    return (error.reason or "").replace("_", " ").lower() or "OpenSSL does not say why"
