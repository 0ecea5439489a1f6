"""Reading certificates, against two others that read them: OpenSSL's command line and the package cryptography."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509 as oracle
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.tls import der, pem, x509
from tests import pki

_TYPES = [
    NameOID.COMMON_NAME,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.EMAIL_ADDRESS,
    NameOID.STREET_ADDRESS,
    NameOID.USER_ID,
    NameOID.DOMAIN_COMPONENT,
    NameOID.SURNAME,
    NameOID.GIVEN_NAME,
    NameOID.ORGANIZATION_IDENTIFIER,
    NameOID.PSEUDONYM,
    oracle.ObjectIdentifier("1.2.3.4.5.6"),
]
KEY = pki.new_key()


def signed(name: oracle.Name) -> oracle.Certificate:
    now = datetime.now(UTC)
    return (
        oracle.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(7)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(KEY, hashes.SHA256())
    )


_ASCII_ONLY = {NameOID.EMAIL_ADDRESS, NameOID.DOMAIN_COMPONENT}


@st.composite
def names(draw: st.DrawFn) -> oracle.Name:
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        pairs = {}
        for kind in draw(st.lists(st.sampled_from(_TYPES), min_size=1, max_size=2, unique=True)):
            alphabet = (
                st.characters(min_codepoint=32, max_codepoint=126)
                if kind in _ASCII_ONLY
                else st.characters(min_codepoint=1, max_codepoint=0x1F600, exclude_categories=["Cs"])
            )
            pairs[kind] = draw(st.text(alphabet, min_size=1, max_size=8))
        parts.append(
            oracle.RelativeDistinguishedName(
                oracle.NameAttribute(kind, text, _validate=False) for kind, text in pairs.items()
            )
        )
    return oracle.Name(parts)


@given(names())
@settings(max_examples=12, deadline=None)
def test_subjects_are_what_openssl_shows(name: oracle.Name) -> None:
    found = x509.parse(signed(name).public_bytes(serialization.Encoding.DER))
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-subject", "-nameopt", "RFC2253", "-inform", "DER"],
        input=found.der,
        capture_output=True,
        check=True,
    ).stdout.decode()
    assert shown == f"subject={found.subject}\n"
    assert found.subject.isascii()
    assert found.subject.isprintable()


def test_what_a_certificate_says() -> None:
    root = pki.Authority()
    middle = pki.Authority("Middle", root)
    issued = middle.issue("a.example", "*.B.example", "192.0.2.1", "2001:db8::1", organisation="Org")
    found = x509.parse(issued.der)
    assert found.subject == "CN=a.example,O=Org"
    assert found.issuer == "CN=Middle"
    assert found.dns_names == ("a.example", "*.b.example")
    assert found.addresses == ("192.0.2.1", "2001:db8::1")
    assert found.common_name == "a.example"
    assert found.key_type == "EC"
    assert not found.is_ca
    assert not found.self_signed
    assert found.not_before == issued.certificate.not_valid_before_utc
    assert found.not_after == issued.certificate.not_valid_after_utc
    assert found.fingerprint == issued.fingerprint
    above = x509.parse(middle.certificate.public_bytes(serialization.Encoding.DER))
    assert above.is_ca
    assert found.issued_by(above)
    assert not above.issued_by(found)
    top = x509.parse(root.certificate.public_bytes(serialization.Encoding.DER))
    assert top.self_signed
    assert not found.issued_by(top)
    assert not found.issued_by(x509.parse(pki.Authority("Middle").certificate.public_bytes(serialization.Encoding.DER)))
    assert x509.parse(root.issue("x", key="rsa").der).key_type == "RSA"


def test_dates_beyond_2049() -> None:
    issued = pki.Authority().issue("x", days=365 * 40)
    assert x509.parse(issued.der).not_after == issued.certificate.not_valid_after_utc


@pytest.mark.parametrize(
    ("name", "host", "covered"),
    [
        ("a.example", "a.example", True),
        ("*.example", "a.example", True),
        ("*.example", "a.b.example", False),
        ("*.example", "example", False),
        ("*.b.example", "a.b.example", True),
        ("b.example", "a.b.example", False),
        ("*.example", "*.example", True),
        ("::1", "::1", True),
    ],
)
def test_names_cover_hosts(name: str, host: str, covered: bool) -> None:
    assert x509.covers(name, host) is covered


def test_without_alternative_names_the_common_name_counts() -> None:
    assert x509.parse(pki.Authority().issue(common_name="Old.Example").der).names == ("old.example",)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_broken_certificates_are_errors_and_nothing_else(data: st.DataObject) -> None:
    whole = bytearray(_WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for broken in (bytes(whole), cut):
        with contextlib.suppress(der.DerError):
            x509.parse(broken)


_WHOLE = pki.Authority().issue("a.example", "192.0.2.1").der


def test_revocation_lists() -> None:
    root = pki.Authority()
    (block,) = pem.blocks(root.revoke(root.issue("x")))
    found = x509.parse_revocation_list(block.der)
    assert found.issuer == "CN=Test Root"
    assert found.next_update is not None
    assert timedelta(days=29) < found.next_update - datetime.now(UTC) < timedelta(days=31)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"hello", "has no PEM block"),
        (b"\x30\x82\x01\x00", "is DER"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "has no PEM block"),
        (b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", "not Base64"),
        (
            b"-----BEGIN A-----\nAAAA\n-----END A-----\n-----BEGIN B-----\nAAAA\n-----END C-----\n",
            "a block without its end",
        ),
    ],
)
def test_no_pem(data: bytes, says: str) -> None:
    with pytest.raises(pem.PemError, match=says):
        pem.blocks(data)


def test_text_around_blocks_is_passed_over() -> None:
    data = b"Certificate:\r\n    Data:\r\n" + _PEM.replace(b"\n", b"\r\n") + b"\r\nbye"
    assert [block.der for block in pem.blocks(data)] == [_WHOLE]


_PEM = oracle.load_der_x509_certificate(_WHOLE).public_bytes(serialization.Encoding.PEM)


def test_every_authority_of_this_system_can_be_read() -> None:
    """Certificates of thirty years and all continents, against what OpenSSL makes of their dates."""
    context = ssl.create_default_context()
    known = context.get_ca_certs(binary_form=True)
    if not known:
        pytest.skip("this system has no certificate authorities in one file")
    for data, shown in zip(known, context.get_ca_certs(), strict=True):
        found = x509.parse(data)
        assert found.not_after.timestamp() == ssl.cert_time_to_seconds(str(shown["notAfter"]))
        assert found.is_ca
        assert found.subject.isascii()
