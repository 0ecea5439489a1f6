"""`headgate cert`: a certificate for development."""

from __future__ import annotations

import argparse
import contextlib
import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from headgate.cli import common
from headgate.config.hosts import HostPattern
from headgate.config.values import Wrong

if TYPE_CHECKING:
    from cryptography.x509 import GeneralName

# Browsers take none that is good for longer than 398 days; nobody should forget one of these on a server for a year.
_DAYS = 90
_MOST_DAYS = 398

_EPILOG = """\
Writes HOST.pem and HOST.key (for the first host named; "*" becomes "_"): an EC key on P-256 that only this user may
read, and a certificate that it has signed itself, for all the hosts named. No client trusts it by itself:

  headgate cert --self-signed localhost 127.0.0.1
  curl --cacert localhost.pem https://localhost:8443/

Needs the package cryptography: pip install 'headgate[tls]'. For the public, certbot and its like get certificates that
everybody trusts (docs/tls.md).

exit codes: 0 written, 1 not (a file is there, cryptography is not), 2 wrong usage
"""


class Pair(NamedTuple):
    """A certificate and its key, PEM."""

    cert: bytes
    key: bytes


def add(commands: common.Commands) -> None:
    """Adds the command's flags."""
    parser = commands.add_parser(
        "cert",
        help="write a certificate and its key, for development",
        description="Write a certificate and its key, for development.",
        epilog=_EPILOG,
        formatter_class=common.Formatter,
    )
    parser.add_argument(
        "--self-signed",
        metavar="HOST",
        nargs="+",
        required=True,
        help='the names and IP addresses it is for: localhost, 127.0.0.1, "*.dev.example"',
    )
    parser.add_argument("--dir", metavar="DIR", default=".", help="where to write (default: the working directory)")
    parser.add_argument(
        "--days", metavar="N", type=_days, default=_DAYS, help=f"how long it is good (default: {_DAYS} days)"
    )
    parser.add_argument("--force", action="store_true", help="write over what is there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes the two files; returns the exit code."""
    hosts = [_host(text) for text in args.self_signed]
    stem = Path(args.dir, hosts[0].replace("*", "_").replace(":", "-"))
    cert_path, key_path = stem.with_name(stem.name + ".pem"), stem.with_name(stem.name + ".key")
    there = [str(path) for path in (cert_path, key_path) if os.path.lexists(path)]
    if there and not args.force:
        raise common.CommandError(f"{' and '.join(there)} {'is' if len(there) == 1 else 'are'} there (--force)")
    end = datetime.now(UTC) + timedelta(days=args.days)
    pair = self_signed(hosts, end)
    try:
        # The key first: a balancer that watches both finds a pair when the second one has changed.
        _write(key_path, pair.key, 0o600, over=args.force)
        _write(cert_path, pair.cert, 0o644, over=args.force)
    except OSError as error:
        raise common.CommandError(f"{error.filename}: {error.strerror or error}") from None
    print(f"{cert_path}: a certificate for {', '.join(hosts)}, good until {end:%Y-%m-%d}")
    print(f"{key_path}: its key")
    print(f'\n[listeners.tls]\ncertificates = [{{ cert = "{cert_path}", key = "{key_path}" }}]')
    return common.EXIT_OK


def self_signed(hosts: list[str], end: datetime) -> Pair:
    """A new key and its own certificate for these hosts, the first of which is its subject. Raises CommandError where
    the package cryptography is not there."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID
    except ModuleNotFoundError:
        raise common.CommandError(
            "making a certificate needs the package cryptography: pip install 'headgate[tls]'"
        ) from None
    key = ec.generate_private_key(ec.SECP256R1())
    # A common name has 64 characters at most (RFC 5280 appendix A.1), and nobody looks at it.
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0][:64])])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # An hour ago: the clock of a virtual machine or a phone beside this one may be late.
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return Pair(
        certificate.public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _general_name(host: str) -> GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _host(text: str) -> str:
    try:
        return HostPattern()(f"[{text}]" if ":" in text and not text.startswith("[") else text).strip("[]")
    except Wrong as wrong:
        raise common.UsageError(f"{wrong.message}{f' ({wrong.suggestion})' if wrong.suggestion else ''}") from None


def _days(text: str) -> int:
    try:
        days = int(text)
    except ValueError:
        days = 0
    if not 1 <= days <= _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"a whole number from 1 to {_MOST_DAYS}: browsers take nothing longer")
    return days


def _write(path: Path, data: bytes, mode: int, *, over: bool) -> None:
    """Whole or not at all; with this mode from the first byte on."""
    import tempfile  # shutil and three compressors come along: not in `headgate run`

    number, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            os.fchmod(number, mode)
            file.write(data)
        if over:
            os.replace(aside, path)
        else:
            os.link(aside, path)  # which fails where somebody was faster
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
