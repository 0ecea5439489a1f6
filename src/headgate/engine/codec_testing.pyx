"""The HTTP/1.1 codec as tests see it. Nothing in the engine imports this.

Every piece of input stands in a malloc'ed copy of exactly its size, so that a sanitizer build sees any byte that is
read beyond it; the copy is a new one for every call, so that nothing can lean on the old address.
"""
from libc.stdint cimport int64_t, uint16_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from headgate.engine.address cimport Address, address_format, address_parse, Networks, resolve_client
from headgate.engine.forwarded cimport resolve_forwarded
from headgate.engine.head cimport *
from headgate.engine.proxy_protocol cimport proxy_error_text, proxy_parse, ProxyHeader
from headgate.engine.http1 cimport (
    Answer, chunk_decode as http1_chunk_decode, chunk_head, chunk_init, ChunkDecoder, Forward, head_init, head_reset, Limits,
    parse_error_text, parse_request as http1_parse_request, parse_response as http1_parse_response,
    write_request as http1_write_request, write_response as http1_write_response,
)

cdef tuple FORMS = ("x", "rfc7239", "both")
cdef tuple FRAMINGS = ("none", "length", "chunked", "close", "tunnel")
cdef dict FLAGS = {
    "keep_alive": HEAD_KEEP_ALIVE, "expect_continue": HEAD_EXPECT_CONTINUE, "upgrade": HEAD_UPGRADE,
    "idempotent": HEAD_IDEMPOTENT, "asterisk": HEAD_ASTERISK, "absolute": HEAD_ABSOLUTE,
    "websocket": HEAD_WEBSOCKET, "h2c": HEAD_H2C, "te_trailers": HEAD_TE_TRAILERS,
}
cdef dict METHODS = {
    "GET": METHOD_GET, "HEAD": METHOD_HEAD, "POST": METHOD_POST, "PUT": METHOD_PUT, "DELETE": METHOD_DELETE,
    "OPTIONS": METHOD_OPTIONS, "TRACE": METHOD_TRACE, "CONNECT": METHOD_CONNECT, "PATCH": METHOD_PATCH,
}


cdef char *copy_of(bytes data) except NULL:
    """An exact-size copy; of no bytes, one that must not be read at all (malloc(0) may give NULL)."""
    cdef char *copy = <char *>malloc(len(data) if data else 1)
    if copy == NULL:
        raise MemoryError
    memcpy(copy, <const char *>data, len(data))
    return copy


cdef bytes span(const Head *head, Span part):
    return head.base[part.off:part.off + part.len]


cdef class Message:
    """A head, parsed: what `Head` holds, as Python objects. `result` is what the parser returned last."""
    cdef Head head
    cdef Field *memory
    cdef char *buffer
    cdef readonly int result
    cdef readonly int calls         # until there was a verdict

    def __cinit__(self):
        self.memory = NULL
        self.buffer = NULL

    def __dealloc__(self):
        free(self.memory)
        free(self.buffer)

    cdef feed(self, bytes data, cuts, Limits limits, bint response, int method, int flags):
        cdef int size
        cdef bytes seen = data
        self.memory = <Field *>malloc(limits.headers * sizeof(Field) if limits.headers else 1)
        if self.memory == NULL:
            raise MemoryError
        head_init(&self.head, self.memory, limits.headers)
        for size in [*cuts, len(data)]:
            free(self.buffer)
            self.buffer = NULL
            self.buffer = copy_of(seen[:size])
            self.calls += 1
            if response:
                self.result = http1_parse_response(&self.head, self.buffer, size, &limits, method, flags)
            else:
                self.result = http1_parse_request(&self.head, self.buffer, size, &limits)
            if self.result != 0:
                return
            seen = self.buffer[:size] + data[size:]     # an absolute-form target may have been rewritten

    @property
    def error(self): return parse_error_text(self.head.error).decode()
    @property
    def status(self): return self.head.status
    @property
    def minor_version(self): return self.head.minor_version
    @property
    def method(self): return span(&self.head, self.head.method_text)
    @property
    def target(self): return span(&self.head, self.head.target)
    @property
    def path(self): return span(&self.head, self.head.path)
    @property
    def authority(self): return span(&self.head, self.head.authority)
    @property
    def host(self): return span(&self.head, self.head.host)
    @property
    def reason(self): return span(&self.head, self.head.reason)
    @property
    def framing(self): return FRAMINGS[self.head.framing]
    @property
    def flags(self): return {name for name, flag in FLAGS.items() if self.head.flags & flag}
    @property
    def max_forwards(self): return self.head.max_forwards
    @property
    def content_length(self): return self.head.content_length
    @property
    def keep_alive_timeout(self): return self.head.keep_alive_timeout

    @property
    def fields(self):
        """(name, value, dropped) of every field line."""
        cdef int i
        cdef Field *field
        found = []
        for i in range(self.head.field_count):
            field = &self.head.fields[i]                # i < field_count
            found.append((self.head.base[field.name_off:field.name_off + field.name_len],
                          self.head.base[field.value_off:field.value_off + field.value_len], bool(field.drop)))
        return found

    def __repr__(self):
        return f"Message(result={self.result}, error={self.error!r})"


cdef Limits make_limits(int head, int request_line, int headers):
    cdef Limits limits
    limits.head = head
    limits.request_line = request_line
    limits.headers = headers
    return limits


def parse_request(bytes data not None, cuts=(), *, int head_limit=32768, int line_limit=8192, int field_limit=100):
    """Feeds data[:c] for each of `cuts`, then all of it, until there is a verdict."""
    message = Message()
    (<Message>message).feed(data, cuts, make_limits(head_limit, line_limit, field_limit), False, 0, 0)
    return message


def parse_response(bytes data not None, cuts=(), *, str method="GET", request_flags=(), int head_limit=32768,
                   int field_limit=100):
    """The same for a response to a request with this method and these flags."""
    cdef int flags = 0
    for name in request_flags:
        flags |= <int>FLAGS[name]
    message = Message()
    (<Message>message).feed(data, cuts, make_limits(head_limit, head_limit, field_limit), True,
                            METHODS.get(method, METHOD_OTHER), flags)
    return message


cdef bytes written(char *out, int64_t size, size_t capacity):
    if size < 0:
        return None
    if <size_t>size > capacity:
        raise AssertionError("more was written than there was room for")
    return out[:size]


def write_request(Message message not None, *, int capacity=65536, bytes client=b"192.0.2.1", bytes peer=b"192.0.2.1",
                  bytes request_id=b"", bytes host=None, bytes via=b"", bytes extra=b"", bint trusted=False,
                  bint tls=False, bint keep_upgrade=False, bint keep_expect=False, str framing=None, str form="x",
                  bint contradicted=False):
    """The request as it goes to a backend; None when `capacity` does not hold it. `framing` defaults to its own."""
    cdef Forward forward
    cdef char *out
    assert message.result > 0
    memset(&forward, 0, sizeof(forward))
    forward.client, forward.client_length = client, len(client)
    forward.peer, forward.peer_length = peer, len(peer)
    forward.request_id, forward.request_id_length = request_id, len(request_id)
    if host is not None:
        forward.host, forward.host_length = host, len(host)
    if via:
        forward.via, forward.via_length = via, len(via)
    if extra:
        forward.extra, forward.extra_length = extra, len(extra)
    forward.trusted, forward.tls = trusted, tls
    forward.form, forward.contradicted = FORMS.index(form), contradicted
    forward.keep_upgrade, forward.keep_expect = keep_upgrade, keep_expect
    forward.framing = message.head.framing if framing is None else FRAMINGS.index(framing)
    out = copy_of(bytes(capacity))
    try:
        return written(out, http1_write_request(out, capacity, &message.head, &forward), capacity)
    finally:
        free(out)


def write_response(Message message not None, *, int capacity=65536, bytes via=b"", bytes date=None, bytes extra=b"",
                   int minor_version=1, str framing=None, bint close=False, bint keep_upgrade=False):
    """The response as it goes to the client; None when `capacity` does not hold it."""
    cdef Answer answer
    cdef char *out
    assert message.result > 0
    memset(&answer, 0, sizeof(answer))
    if via:
        answer.via, answer.via_length = via, len(via)
    if date is not None:
        assert len(date) == 29
        answer.date = date
    if extra:
        answer.extra, answer.extra_length = extra, len(extra)
    answer.minor_version, answer.close, answer.keep_upgrade = minor_version, close, keep_upgrade
    answer.framing = message.head.framing if framing is None else FRAMINGS.index(framing)
    out = copy_of(bytes(capacity))
    try:
        return written(out, http1_write_response(out, capacity, &message.head, &answer), capacity)
    finally:
        free(out)


def decode_chunks(pieces, *, int trailer_capacity=8192):
    """(payload, kept trailer lines, error or None, done, bytes consumed) of a chunked body that comes in pieces."""
    cdef ChunkDecoder decoder
    cdef size_t payload = 0, trailer_length = 0
    cdef int64_t consumed = 0, total = 0
    cdef char *buffer
    cdef char *trailer = copy_of(bytes(trailer_capacity))
    cdef bytes piece
    decoded = []
    chunk_init(&decoder)
    try:
        for piece in pieces:
            buffer = copy_of(piece)
            try:
                consumed = http1_chunk_decode(&decoder, buffer, len(piece), &payload, trailer, trailer_capacity,
                                              &trailer_length)
                decoded.append(buffer[:payload])
            finally:
                free(buffer)
            if consumed < 0:
                break
            total += consumed
            if decoder.done:
                break
        return (b"".join(decoded), trailer[:trailer_length],
                parse_error_text(decoder.error).decode() if consumed < 0 else None, bool(decoder.done), total)
    finally:
        free(trailer)


def chunk_size_line(uint64_t size):
    """The size line of a chunk."""
    cdef char out[18]
    cdef int length = chunk_head(out, size)
    return out[:length]


def normal_address(bytes text not None):
    """The address in its normal form, None when it is none."""
    cdef Address address
    cdef char out[46]
    cdef char *copy = copy_of(text)
    cdef bint known = address_parse(&address, copy, len(text))
    free(copy)
    return out[:address_format(&address, out)].decode() if known else None


cdef Address address_of(bytes text):
    """Of "unix" and anything else that is no address: the unknown one."""
    cdef Address address
    address_parse(&address, text, len(text))
    return address


def in_networks(Networks networks not None, bytes text not None):
    cdef Address address = address_of(text)
    return networks.contains(&address)


def client_of(Message message not None, bytes peer not None, Networks trusted, *, bint forwarded=False):
    """Who the client is by X-Forwarded-For or by Forwarded, as text; "" where that is unknown."""
    cdef Address address = address_of(peer), found
    cdef char out[46]
    if forwarded:
        resolve_forwarded(&found, &message.head, &address, trusted)
    else:
        resolve_client(&found, &message.head, &address, trusted)
    return out[:address_format(&found, out)].decode()


cdef object end_of(const Address *address, uint16_t port):
    cdef char text[46]
    return (text[:address_format(address, text)].decode(), port) if address.known else None


def parse_proxy(bytes data not None):
    """Reads a PROXY protocol header at the beginning of `data`.

    (length, source, destination): each end is (address, port), or None where the header names none; both are None for a
    connection that speaks for itself or is of unknown origin, source is "unix" for a client on a unix socket. None when
    `data` is only the beginning of a header. Raises ValueError for what is no header.
    """
    cdef ProxyHeader header
    cdef char *copy = copy_of(data)
    cdef int length = proxy_parse(&header, copy, len(data))
    free(copy)
    if length < 0:
        raise ValueError((<bytes>proxy_error_text(-length)).decode())
    if length == 0:
        return None
    if not header.relayed:
        return length, None, None
    return length, end_of(&header.source, header.source_port) or "unix", end_of(&header.destination, header.destination_port)


def repeat_parse(bytes data not None, int rounds, *, bint response=False):
    """Parses the same complete head so many times: what bench/codec.py puts a clock around."""
    cdef Field fields[100]
    cdef Head head
    cdef Limits limits = make_limits(32768, 8192, 100)
    cdef const char *text = data
    cdef size_t size = len(data)
    cdef int result = 1
    head_init(&head, fields, 100)
    with nogil:
        for _ in range(rounds):
            head_reset(&head)
            if response:
                result = http1_parse_response(&head, text, size, &limits, METHOD_GET, 0)
            else:
                result = http1_parse_request(&head, text, size, &limits)
            if result <= 0:
                break
    if result <= 0:
        raise ValueError(parse_error_text(head.error).decode())


def repeat_write(Message message not None, int rounds, *, bint response=False):
    """Writes a parsed head so many times, with everything that a plain exchange adds."""
    cdef char out[65536]
    cdef Forward forward
    cdef Answer answer
    cdef int64_t size = 0
    memset(&forward, 0, sizeof(forward))
    memset(&answer, 0, sizeof(answer))
    forward.client, forward.client_length = b"192.0.2.10", 10
    forward.peer, forward.peer_length = b"192.0.2.10", 10
    forward.request_id, forward.request_id_length = b"0123456789abcdef0123456789abcdef", 32
    forward.via, forward.via_length = b"headgate", 8
    forward.framing = message.head.framing
    answer.via, answer.via_length = b"headgate", 8
    answer.date = b"Sun, 06 Nov 1994 08:49:37 GMT"
    answer.minor_version = 1
    answer.framing = message.head.framing
    with nogil:
        for _ in range(rounds):
            if response:
                size += http1_write_response(out, sizeof(out), &message.head, &answer)
            else:
                size += http1_write_request(out, sizeof(out), &message.head, &forward)
    return size // rounds
