"""HTTP/1.1 codec (RFC 9112): bytes to `Head`, `Head` to bytes, chunked bodies. No socket, no allocation, no Python object."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from headgate.engine.head cimport Head, Field

cdef struct Limits:
    uint32_t head               # bytes of a whole head; 431 (414 while in the request line)
    uint32_t request_line       # bytes of the request line; 414
    uint16_t headers            # field lines; 431

cdef enum ParseError:
    PARSE_OK = 0
    PARSE_BAD_REQUEST_LINE
    PARSE_BAD_TARGET
    PARSE_BAD_VERSION
    PARSE_VERSION_NOT_SUPPORTED
    PARSE_BAD_FIELD
    PARSE_BARE_CR_OR_LF
    PARSE_OBS_FOLD
    PARSE_BAD_HOST
    PARSE_BAD_CONTENT_LENGTH
    PARSE_BAD_TRANSFER_ENCODING
    PARSE_UNKNOWN_TRANSFER_CODING
    PARSE_LENGTH_AND_CHUNKED
    PARSE_REQUEST_LINE_TOO_LONG
    PARSE_HEAD_TOO_LARGE
    PARSE_TOO_MANY_HEADERS
    PARSE_BAD_STATUS_LINE
    PARSE_UNSOLICITED_UPGRADE
    PARSE_BAD_UNDERSCORE
    PARSE_BAD_CHUNK
    PARSE_CHUNK_EXTENSION_TOO_LONG
    PARSE_TRAILER_TOO_LARGE
    PARSE_METHOD_NOT_ALLOWED

cdef void head_init(Head *head, Field *fields, uint16_t capacity) noexcept nogil
cdef void head_reset(Head *head) noexcept nogil

# > 0: the head is complete, so many bytes long. 0: more bytes are needed; call again with the same `head` and the
# longer buffer (it may have moved; it is the receive buffer, so writable: an absolute-form target may be rewritten in
# it). < 0: -status to answer (400, 405, 414, 431, 501, 505), `head.error` says why.
cdef int parse_request(Head *head, const char *data, size_t size, const Limits *limits) noexcept nogil
# The same for a response; < 0 is always -502. `request_method` and `request_flags` (HeadFlag) are those of the request
# it answers: HEAD has no body, 101 is an error unless an upgrade was forwarded.
cdef int parse_response(Head *head, const char *data, size_t size, const Limits *limits,
                        uint8_t request_method, uint16_t request_flags) noexcept nogil
cdef const char *parse_error_text(uint8_t error) noexcept nogil
cdef Field *find_field(Head *head, uint8_t field_id) noexcept nogil      # first one, or NULL

cdef struct ChunkDecoder:       # one body in chunked coding (RFC 9112 section 7.1)
    uint64_t remaining          # of the current chunk
    uint32_t overhead           # bytes of extensions and framing spent beyond what is reasonable
    uint32_t trailer_size
    uint8_t state
    uint8_t error               # ParseError
    uint8_t done                # the last chunk and the trailer section are complete
    uint16_t trailer_fields

cdef void chunk_init(ChunkDecoder *decoder) noexcept nogil
# Decodes data[0:size] in place: payload is moved to the front, *payload is its length. Returns how many input bytes
# were consumed (all of them unless the body ended: the rest is the next message), or -1 (see `error`).
# Kept trailer field lines (allowed ones, RFC 9110 section 6.5.1, each ending in CRLF) are appended to `trailer` up to
# `trailer_capacity`; *trailer_length counts them. A line that is not complete yet waits behind them, so pass the same
# buffer and count for a whole body.
cdef int64_t chunk_decode(ChunkDecoder *decoder, char *data, size_t size, size_t *payload,
                          char *trailer, size_t trailer_capacity, size_t *trailer_length) noexcept nogil
# "1a2b\r\n" into out (needs 18 bytes); returns its length.
cdef int chunk_head(char *out, uint64_t size) noexcept nogil

cdef enum ForwardedForm:        # how backends are told about the client, and what of it is believed
    FORM_X = 0                  # X-Forwarded-*; a trusted peer's Forwarded is continued
    FORM_RFC7239                # Forwarded, and no X-Forwarded-*
    FORM_BOTH

cdef struct Forward:            # what the balancer adds to, or changes in, a request
    const char *client          # resolved client address as text (the rightmost untrusted one)
    const char *peer            # address of whoever is connected to us
    const char *request_id      # made by us
    const char *host            # replaces Host when not NULL
    const char *via             # pseudonym; NULL = no Via
    const char *extra           # complete field lines; NULL = none
    const char *trace           # our traceparent line; NULL = none
    uint16_t client_length
    uint16_t peer_length
    uint16_t request_id_length
    uint16_t host_length
    uint16_t via_length
    uint32_t extra_length
    uint16_t trace_length
    uint8_t trusted             # the peer is a trusted proxy: append to X-Forwarded-For, keep its Proto/Host/Request-ID
    uint8_t form                # ForwardedForm
    uint8_t contradicted        # the peer's Forwarded names another client: replaced
    uint8_t tls                 # the client connection is encrypted
    uint8_t keep_upgrade        # pass Upgrade on (the route allows it)
    uint8_t keep_expect         # pass Expect: 100-continue on
    uint8_t framing             # FRAMING_NONE / LENGTH / CHUNKED to the backend

# Both return the bytes written, or -1 when `capacity` does not hold them.
cdef int64_t write_request(char *out, size_t capacity, Head *head, const Forward *forward) noexcept nogil

cdef struct Answer:             # how a response goes to the client
    const char *via
    const char *date            # RFC 9110 date text (29 bytes) used when the backend sent none
    const char *extra           # complete field lines (Set-Cookie of a sticky session); NULL = none
    const char *hsts            # a complete Strict-Transport-Security line, unless the backend sent one; NULL = none
    uint16_t via_length
    uint32_t extra_length
    uint32_t hsts_length
    uint8_t minor_version       # of the client
    uint8_t framing             # to the client
    uint8_t close               # write Connection: close (else keep-alive where an HTTP/1.0 client needs it)
    uint8_t keep_upgrade        # 101: Connection and Upgrade are passed on

cdef int64_t write_response(char *out, size_t capacity, Head *head, const Answer *answer) noexcept nogil
