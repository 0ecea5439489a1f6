"""Certificates for tests: an authority, and what it issues. Made with `cryptography`, which the program itself can do
without."""

from __future__ import annotations

import functools
import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_PEM = serialization.Encoding.PEM


@functools.cache
def rsa_key() -> rsa.RSAPrivateKey:
    """One for all tests: making one takes long."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def new_key(kind: str = "ec") -> Key:
    return rsa_key() if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, encryption)


def subject(common_name: str, organisation: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)] if organisation else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass
class Issued:
    """A certificate, what stands behind it, and its key."""

    certificate: x509.Certificate
    key: Key
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def cert_pem(self) -> bytes:
        return b"".join(one.public_bytes(_PEM) for one in (self.certificate, *self.chain))

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def write(self, directory: Path, name: str) -> tuple[str, str]:
        """The two files, by rename as tools that renew do; returns their paths."""
        found = []
        for suffix, data in (("pem", self.cert_pem), ("key", self.key_pem)):
            path, aside = directory / f"{name}.{suffix}", directory / f".{name}.{suffix}"
            aside.touch(0o600)
            aside.write_bytes(data)
            aside.replace(path)
            found.append(str(path))
        return found[0], found[1]


class Authority:
    """Signs. above: who signed it; None for a root."""

    def __init__(self, name: str = "Test Root", above: Authority | None = None, *, days: float = 3650) -> None:
        self.name = subject(name)
        self.key = new_key()
        self.above = above
        self.certificate = _sign(
            self.name,
            above.name if above else self.name,
            above.key if above else self.key,
            self.key,
            datetime.now(UTC) - DAY,
            datetime.now(UTC) + days * DAY,
            (),
            ca=True,
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(_PEM)

    def issue(
        self,
        *names: str,
        common_name: str = "",
        organisation: str = "",
        key: str = "ec",
        days: float = 30,
        since_days: float = -1,
        name: x509.Name | None = None,
    ) -> Issued:
        """For these names and addresses. days: from now to its end; since_days: to its begin. name: the subject."""
        made = new_key(key)
        now = datetime.now(UTC)
        certificate = _sign(
            name or subject(common_name or (names[0] if names else "nobody"), organisation),
            self.name,
            self.key,
            made,
            now + since_days * DAY,
            now + days * DAY,
            names,
            ca=False,
        )
        return Issued(certificate, made, (self.certificate,) if self.above else ())

    def revoke(self, *issued: Issued, next_update_days: float = 30) -> bytes:
        """A list with these, as PEM."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(now - 40 * DAY)
            .next_update(now + next_update_days * DAY)
        )
        for one in issued:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(one.certificate.serial_number)
                .revocation_date(now - DAY)
                .build()
            )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(_PEM)


def _sign(
    whose: x509.Name,
    issuer: x509.Name,
    with_key: Key,
    key: Key,
    begin: datetime,
    end: datetime,
    names: tuple[str, ...],
    *,
    ca: bool,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(whose)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(with_key.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
    return builder.sign(with_key, hashes.SHA256())


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def fingerprint(pem: bytes) -> str:
    """SHA-256 of a certificate, in hexadecimal."""
    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()


def with_certificates(text: str, directory: Path) -> str:
    """With the files that `text` names made in `directory`."""
    root = Authority()
    pairs: dict[str, Issued] = {}
    for stem, suffix in re.findall(r'"/etc/headgate/([\w-]+)\.(pem|key)"', text):
        issued = pairs.setdefault(stem, root.issue(f"{stem}.example", key="rsa" if stem.endswith("-rsa") else "ec"))
        data = {"pem": issued.cert_pem, "key": issued.key_pem}[suffix]
        if stem in ("clients", "internal-ca"):
            data = root.pem
        elif stem == "revoked":
            data = root.revoke()
        path = directory / f"{stem}.{suffix}"
        path.touch(0o600)
        path.write_bytes(data)
    return text.replace("/etc/headgate/", f"{directory}/")
