"""The Forwarded field (RFC 7239): who the client is, by what trusted proxies wrote there."""
from headgate.engine.address cimport Address, Networks
from headgate.engine.head cimport Head

# As address.resolve_client, by Forwarded instead of X-Forwarded-For.
cdef void resolve_forwarded(Address *out, Head *head, const Address *peer, Networks trusted) noexcept
