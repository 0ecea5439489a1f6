"""The Forwarded field (RFC 7239): who the client is, by what trusted proxies wrote there."""
from libc.stdint cimport uint8_t

from headgate.engine.address cimport Address, Networks
from headgate.engine.head cimport Head

# Who the client is by the one field that `form` (http1.ForwardedForm) says is believed of a trusted peer: the one place where that is decided.
# True: with FORM_BOTH, the peer's Forwarded names another one.
cdef bint client_by_fields(Address *out, Head *head, const Address *peer, Networks trusted, uint8_t form) noexcept
# As address.resolve_client, by Forwarded instead of X-Forwarded-For.
cdef void resolve_forwarded(Address *out, Head *head, const Address *peer, Networks trusted) noexcept
