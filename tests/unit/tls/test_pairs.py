"""What is wrong with a certificate and its key, in words."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from headgate.tls import contexts, pairs
from tests import pki

ROOT = pki.Authority()
MIDDLE = pki.Authority("Middle", ROOT)
ONE, OTHER, RSA = MIDDLE.issue("a.example"), MIDDLE.issue("b.example"), MIDDLE.issue("a.example", key="rsa")


def load(cert: bytes, key: bytes) -> list[str]:
    return [one.subject for one in pairs.load(contexts.empty(), cert, key)]


def test_a_pair_and_its_chain() -> None:
    assert load(ONE.cert_pem, ONE.key_pem) == ["CN=a.example", "CN=Middle"]
    assert load(RSA.cert_pem, RSA.key_pem) == ["CN=a.example", "CN=Middle"]


def test_both_in_one_file() -> None:
    both = ONE.key_pem + ONE.cert_pem
    assert load(both, both) == ["CN=a.example", "CN=Middle"]


def test_keys_in_their_old_forms() -> None:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    key = ONE.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    assert key.startswith(b"-----BEGIN EC PRIVATE KEY")
    # As `openssl ecparam -genkey` writes it.
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert load(ONE.cert_pem, parameters + key)


def short_key() -> pki.Issued:
    issued = ROOT.issue("short.example")
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    issued.certificate = pki._sign(
        issued.certificate.subject,
        ROOT.name,
        ROOT.key,
        key,
        issued.certificate.not_valid_before_utc,
        issued.certificate.not_valid_after_utc,
        ("short.example",),
        ca=False,
    )
    issued.key = key
    return issued


SHORT = short_key()
BROKEN = ONE.cert_pem.replace(ONE.cert_pem.splitlines()[3], b"A" * 64)


@pytest.mark.parametrize(
    ("cert", "key", "at", "says"),
    [
        (ONE.cert_pem, OTHER.key_pem, "key", "does not belong to the certificate"),
        (ONE.cert_pem, RSA.key_pem, "key", "does not belong to the certificate"),
        (ONE.key_pem, ONE.cert_pem, "cert", "has no certificate, only PRIVATE KEY"),
        (ONE.cert_pem, ONE.cert_pem, "key", "has no private key"),
        (ONE.cert_pem, pki.key_pem(ONE.key, b"secret"), "key", "is encrypted"),
        (b"", ONE.key_pem, "cert", "is empty"),
        (ONE.cert_pem, b"", "key", "is empty"),
        (ONE.cert_pem[:400], ONE.key_pem, "cert", "has no PEM block"),
        (ONE.cert_pem, ONE.key_pem[:100], "key", "has no PEM block"),
        (BROKEN, ONE.key_pem, "cert", "cannot be"),
        (ONE.cert_pem, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "key", "cannot be used"),
        (SHORT.cert_pem, SHORT.key_pem, "cert", "too short"),
    ],
    ids=lambda value: value if isinstance(value, str) else "pem",
)
def test_what_is_wrong(cert: bytes, key: bytes, at: str, says: str) -> None:
    with pytest.raises(pairs.BadPair, match=says) as caught:
        load(cert, key)
    if at:
        assert caught.value.at == at
    assert "-----" not in str(caught.value).replace("-----BEGIN …-----", "")


def test_swapped_files_get_a_hint() -> None:
    with pytest.raises(pairs.BadPair) as caught:
        load(ONE.key_pem, ONE.cert_pem)
    assert caught.value.suggestion == "are cert and key the wrong way round?"


def test_a_key_with_a_passphrase_never_asks_for_it() -> None:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    old = ONE.key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret"))
    assert b"Proc-Type: 4,ENCRYPTED" in old
    with pytest.raises(pairs.BadPair, match="is encrypted") as caught:
        load(ONE.cert_pem, old)
    assert "openssl pkey" in caught.value.suggestion
