"""Handshakes in memory, without a socket."""

from __future__ import annotations

import ssl
from dataclasses import dataclass


@dataclass
class Shaken:
    """Both ends after a handshake."""

    client: ssl.SSLObject
    server: ssl.SSLObject
    session: ssl.SSLSession | None

    @property
    def fingerprinted(self) -> bytes:
        found = self.client.getpeercert(True)
        assert found is not None
        return found


def shake(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    name: str | None = None,
    session: ssl.SSLSession | None = None,
) -> Shaken:
    """Raises what either end raises: why it refused the other's certificate, else the server's reason."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    left = [other, one]
    failed: ssl.SSLError | None = None
    for _ in range(20):
        for end in list(left):
            try:
                end.do_handshake()
                left.remove(end)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                verified = isinstance(error, ssl.SSLCertVerificationError)
                if (
                    verified
                    or failed is None
                    or (end is other and not isinstance(failed, ssl.SSLCertVerificationError))
                ):
                    failed = error
                left.remove(end)
        if not left:
            break
    if failed is not None:
        raise failed
    # TLS 1.3 says the rest, tickets and a client's refused certificate among it, after the handshake.
    other.write(b"x")
    assert one.read(1) == b"x"
    return Shaken(one, other, one.session)


def trusting(*pems: bytes, **options: ssl.TLSVersion) -> ssl.SSLContext:
    """A client that believes in these authorities; in everybody, without any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not pems:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for pem in pems:
        context.load_verify_locations(cadata=pem.decode())
    for name, value in options.items():
        setattr(context, name, value)
    return context
