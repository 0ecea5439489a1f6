"""Versions and ciphers: Mozilla's "Server Side TLS", guideline 6.0 (the policy "old": 5.8, the last one that had it).

What the standard library's `ssl` cannot set stays as OpenSSL has it: the suites of TLS 1.3 (the three that the
guideline names, and no others), the groups (X25519, P-256, P-384 and more), and parameters for finite-field
Diffie-Hellman, without which OpenSSL leaves out the DHE suites (which guideline 6.0 has dropped as well).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass

_INTERMEDIATE = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
_OLD = (
    *_INTERMEDIATE,
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA256",
    "AES256-SHA256",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
    # OpenSSL 3 signs with SHA-1, as TLS below 1.2 has to, at this level only.
    "@SECLEVEL=0",
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a listener speaks. ciphers: of TLS 1.2 and below. server_order: does our order decide, or the client's?"""

    minimum: ssl.TLSVersion
    ciphers: tuple[str, ...]
    server_order: bool

    def apply(self, context: ssl.SSLContext) -> None:
        """Set it on a listener's context."""
        context.minimum_version = self.minimum
        context.set_ciphers(":".join(self.ciphers))
        # A phone without AES instructions asks for ChaCha20 first, and knows why.
        if self.server_order:
            context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        else:
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE


POLICIES = {
    "modern": Policy(ssl.TLSVersion.TLSv1_3, _INTERMEDIATE, server_order=False),
    "intermediate": Policy(ssl.TLSVersion.TLSv1_2, _INTERMEDIATE, server_order=False),
    # The lowest that OpenSSL was built with and that OP_NO_SSLv3 (always on) leaves: TLS 1.0. Naming it is deprecated.
    "old": Policy(ssl.TLSVersion.MINIMUM_SUPPORTED, _OLD, server_order=True),
}
