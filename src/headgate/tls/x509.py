"""What a certificate or a revocation list says (RFC 5280): names, dates, key, who signed it.

Reads only; whether a signature holds is for OpenSSL to say. Used for the operator's own files, and for certificates of
clients that OpenSSL has verified.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from headgate.tls import der
from headgate.tls.der import DerError, Value

# Short names of attribute types as OpenSSL prints them (those of RFC 4514 section 3 are among them).
_TYPES = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.13": "description",
    "2.5.4.15": "businessCategory",
    "2.5.4.17": "postalCode",
    "2.5.4.41": "name",
    "2.5.4.42": "GN",
    "2.5.4.43": "initials",
    "2.5.4.44": "generationQualifier",
    "2.5.4.46": "dnQualifier",
    "2.5.4.65": "pseudonym",
    "2.5.4.97": "organizationIdentifier",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
}
_COMMON_NAME = "2.5.4.3"
# ASN.1 string types, and how their bytes are text. T61String is taken for Latin-1, as OpenSSL and everybody does.
_STRINGS = {
    0x0C: "utf-8",
    0x12: "ascii",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1A: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
_SPECIAL = frozenset(',+"\\<>;')

_KEY_TYPES: dict[str, Literal["RSA", "EC", "Ed25519", "Ed448"]] = {
    "1.2.840.113549.1.1.1": "RSA",
    "1.2.840.10045.2.1": "EC",
    "1.3.101.112": "Ed25519",
    "1.3.101.113": "Ed448",
}
_SUBJECT_KEY, _KEY_USAGE, _ALTERNATIVE_NAMES = "2.5.29.14", "2.5.29.15", "2.5.29.17"
_CONSTRAINTS, _AUTHORITY_KEY = "2.5.29.19", "2.5.29.35"


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate. Names are in lower case, addresses as `ipaddress` writes them."""

    der: bytes
    subject: str
    """As RFC 4514 writes it, in ASCII only: what `openssl x509 -subject -nameopt RFC2253` shows."""
    issuer: str
    subject_der: bytes
    issuer_der: bytes
    not_before: datetime
    not_after: datetime
    dns_names: tuple[str, ...]
    """Alternative names that are host names, "*.example" among them."""
    addresses: tuple[str, ...]
    """Alternative names that are IP addresses."""
    common_name: str
    """The last one of the subject; "" where it has none."""
    key_type: str
    """ "RSA", "EC", "Ed25519", "Ed448", or an object identifier."""
    is_ca: bool
    subject_key: bytes
    """Identifies its key; b"" where it does not say."""
    authority_key: bytes
    """Identifies the key it was signed with; b"" where it does not say."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the whole, in lower-case hexadecimal."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def names(self) -> tuple[str, ...]:
        """Everything it is for. Without alternative names that is the common name, which old clients take."""
        names = (*self.dns_names, *self.addresses)
        return names or ((self.common_name.lower(),) if self.common_name else ())

    @property
    def self_signed(self) -> bool:
        """Does it name itself as its issuer?"""
        return self.subject_der == self.issuer_der

    def issued_by(self, other: Certificate) -> bool:
        """Do names and key identifiers fit? (Says nothing of the signature.)"""
        if self.issuer_der != other.subject_der:
            return False
        return not (self.authority_key and other.subject_key) or self.authority_key == other.subject_key

    def is_for(self, host: str) -> bool:
        """Would a client that asks for this host, in lower case, take it? (RFC 6125: a star is one whole label.)"""
        return any(covers(name, host) for name in self.names)


@dataclass(frozen=True, slots=True)
class RevocationList:
    """One list of revoked certificates."""

    issuer: str
    issuer_der: bytes
    next_update: datetime | None


def covers(name: str, host: str) -> bool:
    """Is a certificate's name, which may begin with a star, good for this host?"""
    if name == host:
        return True
    _, dot, parent = host.partition(".")
    return bool(dot) and name.startswith("*.") and name[2:] == parent


def parse(data: bytes) -> Certificate:
    """A certificate from its DER. Raises DerError."""
    try:
        return _parse(data)
    except DerError:
        raise
    except (StopIteration, IndexError, ValueError):
        raise DerError("parts are missing") from None


def parse_revocation_list(data: bytes) -> RevocationList:
    """A revocation list from its DER. Raises DerError."""
    try:
        fields = list(next(der.read(data).items()).expect(der.SEQUENCE).items())
        if fields[0].tag == der.INTEGER:
            del fields[0]
        next_update = der.time(fields[3]) if fields[3:] and fields[3].tag in _TIMES else None
        return RevocationList(distinguished_name(fields[1]), fields[1].whole, next_update)
    except DerError:
        raise
    except (StopIteration, IndexError, ValueError):
        raise DerError("parts are missing") from None


_TIMES = (der.UTC_TIME, der.GENERALIZED_TIME)


def _parse(data: bytes) -> Certificate:
    fields = list(next(der.read(data).items()).expect(der.SEQUENCE).items())
    if fields[0].tag == 0xA0:  # the version
        del fields[0]
    _, _, issuer, validity, subject, key = fields[:6]
    not_before, not_after = (der.time(value) for value in validity.expect(der.SEQUENCE).items())
    extensions = {}
    for field in fields[6:]:
        if field.tag == 0xA3:
            extensions = dict(_extension(value) for value in next(field.items()).items())
    dns_names, addresses = _alternative_names(extensions.get(_ALTERNATIVE_NAMES))
    algorithm = der.oid(next(next(key.expect(der.SEQUENCE).items()).items()))
    return Certificate(
        der=data,
        subject=distinguished_name(subject),
        issuer=distinguished_name(issuer),
        subject_der=subject.whole,
        issuer_der=issuer.whole,
        not_before=not_before,
        not_after=not_after,
        dns_names=dns_names,
        addresses=addresses,
        common_name=_common_name(subject),
        key_type=_KEY_TYPES.get(algorithm, algorithm),
        is_ca=_is_ca(extensions),
        subject_key=_subject_key(extensions.get(_SUBJECT_KEY)),
        authority_key=_authority_key(extensions.get(_AUTHORITY_KEY)),
    )


def _extension(value: Value) -> tuple[str, bytes]:
    parts = list(value.expect(der.SEQUENCE).items())
    return der.oid(parts[0]), parts[-1].expect(der.OCTET_STRING).content


def _alternative_names(extension: bytes | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if extension is None:
        return (), ()
    dns_names, addresses = [], []
    for name in der.read(extension).items():
        if name.tag == 0x82:
            dns_names.append(name.content.decode("ascii", "replace").lower().removesuffix("."))
        elif name.tag == 0x87 and len(name.content) in (4, 16):
            addresses.append(str(ipaddress.ip_address(name.content)))
    return tuple(dns_names), tuple(addresses)


def _is_ca(extensions: dict[str, bytes]) -> bool:
    constraints = extensions.get(_CONSTRAINTS)
    if constraints is None:
        return False
    first = next(iter(der.read(constraints).items()), None)
    return first is not None and first.tag == der.BOOLEAN and first.content != b"\0"


def _subject_key(extension: bytes | None) -> bytes:
    return b"" if extension is None else der.read(extension, der.OCTET_STRING).content


def _authority_key(extension: bytes | None) -> bytes:
    if extension is None:
        return b""
    return next((value.content for value in der.read(extension).items() if value.tag == 0x80), b"")


# Names


def distinguished_name(name: Value) -> str:
    """As RFC 4514 section 2 writes it: the last part first, in ASCII only, so that it can stand in a header field."""
    parts = []
    for relative in name.expect(der.SEQUENCE).items():
        # The RFC leaves the order within one part open; OpenSSL turns that round as well.
        parts.append("+".join(reversed([_attribute(pair) for pair in relative.expect(der.SET).items()])))
    return ",".join(reversed(parts))


def _attribute(pair: Value) -> str:
    kind, value = pair.expect(der.SEQUENCE).items()
    identifier = der.oid(kind)
    name = _TYPES.get(identifier)
    text = _text(value)
    if name is None or text is None:
        return f"{name or identifier}=#{value.whole.hex().upper()}"
    return f"{name}={_escaped(text)}"


def _text(value: Value) -> str | None:
    coding = _STRINGS.get(value.tag)
    if coding is None:
        return None
    try:
        return value.content.decode(coding)
    except UnicodeDecodeError:
        return None


def _escaped(text: str) -> str:
    shown = []
    for place, char in enumerate(text):
        edge = (char == " " and place in (0, len(text) - 1)) or (char == "#" and place == 0)
        if char in _SPECIAL or edge:
            shown.append("\\" + char)
        elif " " <= char <= "~":
            shown.append(char)
        else:
            shown.append("".join(f"\\{byte:02X}" for byte in char.encode("utf-8", "surrogatepass")))
    return "".join(shown)


def _common_name(subject: Value) -> str:
    found = ""
    for relative in subject.items():
        for pair in relative.items():
            kind, value = pair.expect(der.SEQUENCE).items()
            if der.oid(kind) == _COMMON_NAME:
                found = _text(value) or found
    return found
