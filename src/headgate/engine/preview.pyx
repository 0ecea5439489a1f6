"""A request that is only looked at: the same codec, the same client address and the same view that a real one has.

What explains where a request would go must not read it by rules of its own, or the two would part on the first request
that matters: a strange Host, two cookies of one name, a list of proxies.
"""
from libc.stdint cimport uint8_t, uint16_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from headgate.engine.address cimport Address, Networks, address_format, address_parse
from headgate.engine.forwarded cimport client_by_fields
from headgate.engine.head cimport (
    FRAMING_CHUNKED, FRAMING_LENGTH, HEAD_H2C, HEAD_IDEMPOTENT, HEAD_UPGRADE, HEAD_WEBSOCKET, METHOD_GET, METHOD_HEAD, METHOD_OPTIONS, METHOD_TRACE,
    Field, Head,
)
from headgate.engine.http1 cimport Limits, head_init, parse_error_text, parse_request
from headgate.engine.request cimport Request

from headgate.engine.model import FORWARDED_FORMS
from headgate.engine.request_head import BadRequestHead


cdef class Preview:
    """See the stub."""
    cdef Head head
    cdef Limits limits
    cdef Field *fields
    cdef char *buffer
    cdef Address _client
    cdef char client_text[48]
    cdef uint16_t client_length
    cdef readonly Request request
    cdef readonly bint trusted

    def __cinit__(self, bytes head not None, str client not None, Networks trusted not None, *, str forwarded="x", int head_limit, int line_limit, int headers_limit):
        cdef Address peer
        cdef bytes text = client.encode("ascii", "replace")
        cdef int taken
        self.limits.head = head_limit
        self.limits.request_line = line_limit
        self.limits.headers = headers_limit
        self.fields = <Field *>malloc(headers_limit * sizeof(Field))
        self.buffer = <char *>malloc(len(head) + 1)
        if self.fields == NULL or self.buffer == NULL:
            raise MemoryError
        memcpy(self.buffer, <const char *>head, len(head))
        head_init(&self.head, self.fields, headers_limit)
        peer.known = 0
        if text != b"unix" and not address_parse(&peer, text, len(text)):
            raise ValueError(f"{client!r} is not the address of a client")
        taken = parse_request(&self.head, self.buffer, len(head), &self.limits)
        if taken <= 0:
            raise BadRequestHead(-taken if taken < 0 else 400, parse_error_text(self.head.error).decode() if taken < 0 else "the head is not complete")
        self._client = peer
        if trusted.contains(&peer):
            self.trusted = True
            client_by_fields(&self._client, &self.head, &peer, trusted, <uint8_t>FORWARDED_FORMS.index(forwarded))
        if self._client.known:
            self.client_length = <uint16_t>address_format(&self._client, self.client_text)
        else:
            memcpy(self.client_text, b"unix", 4)
            self.client_length = 4
        self.request = Request.__new__(Request)
        self.request._head = &self.head
        self.request._client_text = self.client_text
        self.request._client_length = self.client_length
        self.request._client = &self._client
        self.request._idempotent = (self.head.flags & HEAD_IDEMPOTENT) != 0

    def __dealloc__(self):
        if self.request is not None:
            self.request._head = NULL
        free(self.fields)
        free(self.buffer)

    @property
    def websocket(self) -> bool:
        return (self.head.flags & HEAD_WEBSOCKET) != 0

    @property
    def upgrade(self) -> bool:
        return (self.head.flags & HEAD_UPGRADE) != 0 and not self.head.flags & HEAD_H2C

    @property
    def body_bytes(self) -> int | None:
        return self.head.content_length if self.head.framing == FRAMING_LENGTH else None if self.head.framing == FRAMING_CHUNKED else 0

    @property
    def only_reads(self) -> bool:
        return self.head.method == METHOD_GET or self.head.method == METHOD_HEAD

    @property
    def ends_here(self) -> bool:
        return self.head.max_forwards == 0 and (self.head.method == METHOD_TRACE or self.head.method == METHOD_OPTIONS)

    def client_in(self, Networks networks not None) -> bool:
        return networks.contains(&self._client)

    def not_idempotent(self) -> None:
        self.request._idempotent = False
