"""The `ssl.SSLContext` objects of listeners and backends, from the configuration and the bytes of its files."""

from __future__ import annotations

import ssl

from headgate.config.tls import ListenerTls, PoolTls
from headgate.tls import pairs, pem
from headgate.tls.files import TlsFiles, as_path
from headgate.tls.policy import POLICIES
from headgate.tls.sni import Chooser, Group

ALPN = ("http/1.1",)


def listener_context(tls: ListenerTls, files: TlsFiles) -> ssl.SSLContext:
    """What a listener's handshakes begin with; it changes to another one when the client's SNI asks for that.

    Contexts for other names differ in their certificates only: OpenSSL takes versions and options from the first one.
    Raises ValueError (BadPair, PemError).
    """
    content = files.content
    certificates = [pairs.certificates(content[certificate.cert])[0] for certificate in tls.certificates]
    chooser = Chooser(certificates)
    contexts = {group: _listener_context(tls, group, files) for group in chooser.groups}
    first = contexts[chooser.default]

    if len(contexts) > 1:

        def choose(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
            chosen = contexts[chooser.choose(name)]
            if chosen is not first:
                connection.context = chosen

        first.sni_callback = choose
    return first


def _listener_context(tls: ListenerTls, group: Group, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    POLICIES[tls.policy].apply(context)
    # Nobody needs it, and each costs a handshake (CVE-2011-1473); TLS 1.3 has none.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(ALPN)
    for place in group:
        certificate = tls.certificates[place]
        pairs.load(context, files.content[certificate.cert], files.content[certificate.key_file])
    if tls.client_ca:
        context.verify_mode = ssl.CERT_REQUIRED if tls.client_auth == "required" else ssl.CERT_OPTIONAL
        load_authorities(context, files.content[tls.client_ca])
        if tls.client_crl:
            pairs.revocation_lists(files.content[tls.client_crl])
            with as_path(files.content[tls.client_crl]) as path:
                context.load_verify_locations(path)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def backend_context(tls: PoolTls, files: TlsFiles) -> ssl.SSLContext:
    """What connections to a pool's backends are made with. Raises ValueError (BadPair, PemError)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(ALPN)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca:
        load_authorities(context, files.content[tls.ca])
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if tls.cert:
        pairs.load(context, files.content[tls.cert], files.content[tls.key_file])
    return context


def empty() -> ssl.SSLContext:
    """One to try things out with."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def load_authorities(context: ssl.SSLContext, data: bytes) -> None:
    """Trust every certificate in a PEM file, those too that are no root: who names one means it. Raises PemError."""
    for certificate in pairs.certificates(data):
        try:
            context.load_verify_locations(cadata=certificate.der)
        except ssl.SSLError as error:
            if error.reason != "CERT_ALREADY_IN_HASH_TABLE":
                raise pem.PemError(f"has a certificate that OpenSSL does not take: {error.reason}") from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def has_system_authorities() -> bool:
    """Does this machine have certificate authorities to trust where no `ca` is named?"""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    # A directory of hashed names is looked into when it is needed, and so does not count here.
    paths = ssl.get_default_verify_paths()
    return bool(context.cert_store_stats()["x509"]) or paths.capath is not None
