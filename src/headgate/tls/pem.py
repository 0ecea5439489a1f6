"""PEM (RFC 7468): the blocks in a file. Text around them, as `openssl x509 -text` writes it, is passed over."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass

_BLOCK = re.compile(
    rb"-----BEGIN (?P<label>[A-Z0-9 ]+)-----[ \t]*\r?\n(?P<body>.*?)-----END (?P=label)-----", re.DOTALL
)

CERTIFICATE = ("CERTIFICATE", "X509 CERTIFICATE")
REVOCATION_LIST = ("X509 CRL",)


class PemError(ValueError):
    """A file that is not PEM, or not the PEM that was expected; the text completes "FILE …"."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block. encrypted: it needs a passphrase."""

    label: str
    der: bytes
    encrypted: bool = False


def blocks(data: bytes) -> list[Block]:
    """All blocks of a file. Raises PemError."""
    found = []
    for match in _BLOCK.finditer(data):
        label = match["label"].decode()
        body = match["body"]
        encrypted = label == "ENCRYPTED PRIVATE KEY"
        if b":" in body:  # RFC 1421 fields: "Proc-Type: 4,ENCRYPTED"
            encrypted = encrypted or b"ENCRYPTED" in body
            body = body.replace(b"\r\n", b"\n").partition(b"\n\n")[2]
        try:
            der = binascii.a2b_base64(b"".join(body.split()), strict_mode=True)
        except binascii.Error:
            raise PemError(f"has a block {label!r} that is not Base64") from None
        found.append(Block(label, der, encrypted))
    if not found:
        if not data.strip():
            raise PemError("is empty")
        if data[:1] == b"\x30":
            raise PemError("is DER, not PEM (openssl x509 -inform DER -in FILE -out FILE.pem turns it into PEM)")
        raise PemError("has no PEM block (-----BEGIN …-----)")
    if data.count(b"-----BEGIN ") != len(found):
        raise PemError("has a block without its end, or with another one's")
    return found
