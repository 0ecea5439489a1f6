"""What policy may ask about a request: a lazy view of its head."""
from libc.stdint cimport uint16_t

from headgate.engine.address cimport Address
from headgate.engine.head cimport Head

cdef class Request:
    cdef Head *_head                # NULL: no longer valid
    cdef const char *_client_text
    cdef uint16_t _client_length
    cdef const Address *_client
    cdef bint _idempotent
    cdef Head *_get(self) except NULL
    cdef bytes client_key(self)     # what `client_bytes` says

cdef Request lend(Head *head, const char *client_text, uint16_t client_length, const Address *client, bint idempotent)
cdef void take_back(Request view) noexcept

# Finds cookie `name` in the Cookie fields (RFC 6265 section 4.2.1).
cdef bint cookie_value(Head *head, const char *name, size_t name_size, const char **value, size_t *value_size) noexcept nogil
