"""Contexts, by what handshakes with them come to."""

from __future__ import annotations

import re
import ssl
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from headgate.config.addresses import BackendUrl, Bind
from headgate.config.schema import Backend, Config, Listener, Pool
from headgate.config.tls import Certificate, ListenerTls, PoolTls
from headgate.runtime.messages import Apply, Try
from headgate.runtime.snapshot import Snapshot
from headgate.tls import contexts
from headgate.tls.built import Built
from headgate.tls.files import TlsFiles
from headgate.tls.identity import NOBODY, Identity, identify
from headgate.tls.pairs import load
from tests import pki
from tests.unit.tls.handshake import shake, trusting

ROOT = pki.Authority()
CLIENTS = pki.Authority("Clients")
A, B, A_RSA = ROOT.issue("a.example"), ROOT.issue("*.b.example"), ROOT.issue("a.example", key="rsa")
ALICE, MALLORY = CLIENTS.issue(common_name="alice", organisation="Org"), CLIENTS.issue(common_name="mallory")

FILES = TlsFiles(
    {f"{name}.pem": issued.cert_pem for name, issued in (("a", A), ("b", B), ("rsa", A_RSA), ("alice", ALICE))}
    | {f"{name}.key": issued.key_pem for name, issued in (("a", A), ("b", B), ("rsa", A_RSA), ("alice", ALICE))}
    | {"clients.pem": CLIENTS.pem, "revoked.pem": CLIENTS.revoke(MALLORY), "root.pem": ROOT.pem}
)


def pair(name: str) -> Certificate:
    return Certificate(cert=f"{name}.pem", key=f"{name}.key")


def server(*names: str, **options: Any) -> ssl.SSLContext:
    tls = ListenerTls(certificates=tuple(pair(name) for name in names), **options)
    return contexts.listener_context(tls, FILES)


def client_with(issued: pki.Issued) -> ssl.SSLContext:
    context = trusting(ROOT.pem)
    load(context, issued.cert_pem, issued.key_pem)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("name", "issued"),
    [("a.example", A), ("x.b.example", B), ("other.test", A), (None, A)],
    ids=("a", "b", "other", "none"),
)
def test_certificates_by_sni(version: ssl.TLSVersion, name: str | None, issued: pki.Issued) -> None:
    client = trusting(minimum_version=version, maximum_version=version)
    assert shake(server("a", "b"), client, name).fingerprinted == issued.der


def test_a_wrong_name_is_the_clients_to_refuse() -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"other\.test"):
        shake(server("a", "b"), trusting(ROOT.pem), "other.test")
    assert shake(server("a", "b"), trusting(ROOT.pem), "y.b.example").fingerprinted == B.der


@pytest.mark.parametrize("issued", [A, A_RSA], ids=("ec", "rsa"))
def test_each_client_gets_the_key_it_understands(issued: pki.Issued) -> None:
    """TLS 1.2: what the client's ciphers ask for."""
    client = trusting(maximum_version=ssl.TLSVersion.TLSv1_2)
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256" if issued is A else "ECDHE-RSA-AES128-GCM-SHA256")
    assert shake(server("a", "rsa"), client, "a.example").fingerprinted == issued.der
    assert shake(server("b", "a", "rsa"), client, "a.example").fingerprinted == issued.der


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("modern", {"TLSv1.3"}),
        ("intermediate", {"TLSv1.2", "TLSv1.3"}),
        ("old", {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"}),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_versions(policy: str, versions: set[str]) -> None:
    spoken = set()
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client = trusting()
        client.set_ciphers("ALL:@SECLEVEL=0")
        client.minimum_version = client.maximum_version = version
        try:
            spoken.add(shake(server("a", "rsa", policy=policy), client, "a.example").client.version())
        except ssl.SSLError:
            continue
    assert spoken == versions


def ciphers(context: ssl.SSLContext) -> list[str]:
    return [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]


def test_ciphers_are_the_guidelines() -> None:
    assert ciphers(server("a")) == [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    ]
    assert {
        cipher["name"] for cipher in server("a", policy="modern").get_ciphers() if cipher["protocol"] == "TLSv1.3"
    } == {
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    }
    assert "AES128-SHA" in ciphers(server("a", policy="old"))


def test_options() -> None:
    for context in (server("a"), contexts.backend_context(PoolTls(ca="root.pem"), FILES)):
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_NO_COMPRESSION
    assert not server("a").options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert server("a", policy="old").options & ssl.OP_CIPHER_SERVER_PREFERENCE


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), (["h2"], None)]
)
def test_alpn_for_every_name(offered: list[str], chosen: str | None) -> None:
    client = trusting()
    client.set_alpn_protocols(offered)
    for name in ("a.example", "x.b.example"):
        assert shake(server("a", "b"), client, name).client.selected_alpn_protocol() == chosen


def test_sessions_are_resumed_for_every_name() -> None:
    one = server("a", "b")
    for name in ("a.example", "x.b.example"):
        client = trusting(ROOT.pem)
        first = shake(one, client, name)
        again = shake(one, client, name, first.session)
        assert again.client.session_reused


# Clients' certificates


@pytest.mark.parametrize("name", ["a.example", "x.b.example"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_required(name: str, version: ssl.TLSVersion) -> None:
    listener = server("a", "b", client_ca="clients.pem")
    good = client_with(ALICE)
    without = trusting(ROOT.pem)
    stranger = client_with(pki.Authority("Clients").issue(common_name="alice"))
    for context in (good, without, stranger):
        context.minimum_version = context.maximum_version = version
    shaken = shake(listener, good, name)
    identity, lines = identify(shaken.server)
    assert identity is not None
    assert (identity.subject, identity.fingerprint) == ("CN=alice,O=Org", ALICE.fingerprint)
    assert (
        lines
        == (
            f"X-Client-Cert-Verify: SUCCESS\r\nX-Client-Cert-Subject: CN=alice,O=Org\r\n"
            f"X-Client-Cert-Fingerprint: {ALICE.fingerprint}\r\n"
        ).encode()
    )
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake(listener, without, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(listener, stranger, name)


def test_optional() -> None:
    listener = server("a", client_ca="clients.pem", client_auth="optional")
    assert identify(shake(listener, trusting(ROOT.pem), "a.example").server) == (None, NOBODY)
    identity, _ = identify(shake(listener, client_with(ALICE), "a.example").server)
    assert identity is not None
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(listener, client_with(pki.Authority("Clients").issue(common_name="alice")), "a.example")


def test_a_resumed_session_is_the_same_client() -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        listener = server("a", client_ca="clients.pem")
        client = client_with(ALICE)
        client.maximum_version = version
        again = shake(listener, client, "a.example", shake(listener, client, "a.example").session)
        assert again.client.session_reused
        identity, _ = identify(again.server)
        assert identity is not None
        assert identity.fingerprint == ALICE.fingerprint


def test_revoked() -> None:
    listener = server("a", client_ca="clients.pem", client_crl="revoked.pem")
    shake(listener, client_with(ALICE), "a.example")
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        shake(listener, client_with(MALLORY), "a.example")


def test_expired_clients_are_refused() -> None:
    listener = server("a", client_ca="clients.pem")
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake(listener, client_with(CLIENTS.issue(common_name="old", days=-0.5)), "a.example")


def test_a_subject_cannot_end_its_line() -> None:
    evil = CLIENTS.issue(common_name="x\r\nX-Client-Cert-Verify: SUCCESS\r\n")
    _, lines = identify(shake(server("a", client_ca="clients.pem"), client_with(evil), "a.example").server)
    assert lines.count(b"\r\n") == 3
    assert lines.count(b"\n") == 3


def test_an_endless_subject_is_cut() -> None:
    class Shown:
        def getpeercert(self, binary_form: bool, /) -> bytes:
            return many.der

    units = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "é" * 30) for _ in range(100)]
    many = CLIENTS.issue(name=x509.Name(units))
    identity, lines = identify(Shown())
    assert isinstance(identity, Identity)
    assert len(lines) < 2500


# Backends


FOREIGN = pki.Authority().issue("a.example")
"""Of another root by the same name."""


@pytest.mark.parametrize(
    ("tls", "issued", "name", "refused"),
    [
        ({"ca": "root.pem"}, A, "a.example", ""),
        ({"ca": "root.pem"}, A, "b.example", "Hostname mismatch"),
        ({"ca": "root.pem"}, ROOT.issue("a.example", days=-0.1), "a.example", "expired"),
        ({"ca": "root.pem"}, ROOT.issue("a.example", since_days=1), "a.example", "not yet valid"),
        ({"ca": "root.pem"}, FOREIGN, "a.example", "signature failure|unable to get local issuer"),
        ({"ca": "clients.pem"}, A, "a.example", "unable to get local issuer"),
        ({"ca": "a.pem"}, A, "a.example", ""),
        ({}, A, "a.example", "unable to get local issuer"),
        ({"verify": False}, A, "b.example", ""),
        ({"ca": "root.pem"}, ROOT.issue("192.0.2.1"), "192.0.2.1", ""),
        ({"ca": "root.pem"}, ROOT.issue("192.0.2.1"), "192.0.2.2", "IP address mismatch"),
    ],
    ids=lambda value: str(value) if isinstance(value, (str, dict)) else "pem",
)
def test_backends_are_verified(tls: Mapping[str, Any], issued: pki.Issued, name: str, refused: str) -> None:
    context = contexts.backend_context(PoolTls(**tls), FILES)
    backend = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load(backend, issued.cert_pem, issued.key_pem)
    if refused:
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            shake(backend, context, name)
        assert re.search(refused, str(caught.value))
    else:
        shake(backend, context, name)


def test_a_certificate_for_backends() -> None:
    backend = contexts.listener_context(ListenerTls(certificates=(pair("a"),), client_ca="clients.pem"), FILES)
    with_one = contexts.backend_context(PoolTls(ca="root.pem", cert="alice.pem", key="alice.key"), FILES)
    assert identify(shake(backend, with_one, "a.example").server)[0] is not None
    with pytest.raises(ssl.SSLError):
        shake(backend, contexts.backend_context(PoolTls(ca="root.pem"), FILES), "a.example")


# Taking over


def tree(**tls: Any) -> Config:
    listener = Listener(bind=Bind.parse(":8443"), tls=ListenerTls(certificates=(pair("a"),), **tls))
    pool = Pool(backends=(Backend(url=BackendUrl.parse("https://x")),), tls=PoolTls(ca="root.pem"))
    return Config(listeners=(listener,), pools={"web": pool})


def test_what_has_not_changed_is_taken_over() -> None:
    config = tree()
    first = Built(config, FILES)
    again = Built(tree(watch=True, handshake_timeout=3.0), TlsFiles(dict(FILES.content)), first)
    (listener,), pool = config.listeners, config.pools["web"]
    assert first.of_listener(listener) is not None
    assert again.of_listener(listener) is first.of_listener(listener)
    assert again.of_pool(pool) is first.of_pool(pool) is not None
    renewed = ROOT.issue("a.example")
    files = TlsFiles({**FILES.content, "a.pem": renewed.cert_pem, "a.key": renewed.key_pem})
    other = Built(config, files, again)
    assert other.of_listener(listener) is not first.of_listener(listener)
    assert other.of_pool(pool) is first.of_pool(pool)
    assert Built(config, FILES, other).of_listener(listener) is not first.of_listener(listener)


def test_what_cannot_be_built_says_where() -> None:
    files = TlsFiles({**FILES.content, "a.key": B.key_pem})
    with pytest.raises(ValueError, match=r"listener :8443\.tls: does not belong to the certificate"):
        Built(tree(), files)


def test_keys_are_never_shown() -> None:
    snapshot = Snapshot(
        config=tree(),
        generation=1,
        pool_slots={},
        backend_slots={},
        addresses={},
        sticky_secrets={"a": b"hush"},
        tls=FILES,
    )
    for shown in (FILES, snapshot, Apply(snapshot), Try(1, tree(), FILES)):
        for text in (repr(shown), str(shown), f"{shown!r:>10}"):
            assert "PRIVATE" not in text
            assert "hush" not in text
            assert A.key_pem.splitlines()[1].decode() not in text


def test_a_subject_agrees_with_the_command_line() -> None:
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256"], input=A.cert_pem, capture_output=True, check=True
    ).stdout.decode()
    assert shown.partition("=")[2].strip().replace(":", "").lower() == A.fingerprint
