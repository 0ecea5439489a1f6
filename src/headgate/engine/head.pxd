"""The version-neutral request or response head: what every codec fills and every codec writes.

A `Head` holds spans (offset, length) into one contiguous buffer that its owner keeps alive; it owns only its field
array. HTTP/1 spans point into the receive buffer; HTTP/2 will decode HPACK into a buffer of its own and point there.
Nothing outside a codec knows which version filled it.
"""
from libc.stdint cimport int16_t, int64_t, uint8_t, uint16_t, uint32_t

cdef extern from *:
    """
    typedef struct { uint32_t off; uint32_t len; } hg_span;
    typedef struct { uint32_t name_off; uint32_t value_off; uint32_t value_len; uint16_t name_len; uint8_t id; uint8_t drop; } hg_field;
    """
    ctypedef struct Span "hg_span":
        uint32_t off
        uint32_t len
    ctypedef struct Field "hg_field":        # 16 bytes
        uint32_t name_off
        uint32_t value_off
        uint32_t value_len
        uint16_t name_len
        uint8_t id          # FieldId, 0 = a name the engine does not care about
        uint8_t drop        # 1 = hop-by-hop, named in Connection, or replaced by ours: never forwarded

cdef enum FieldId:
    FIELD_OTHER = 0
    FIELD_HOST
    FIELD_CONNECTION
    FIELD_CONTENT_LENGTH
    FIELD_TRANSFER_ENCODING
    FIELD_KEEP_ALIVE
    FIELD_PROXY_CONNECTION
    FIELD_TE
    FIELD_TRAILER
    FIELD_UPGRADE
    FIELD_HTTP2_SETTINGS
    FIELD_EXPECT
    FIELD_COOKIE
    FIELD_SET_COOKIE
    FIELD_DATE
    FIELD_SERVER
    FIELD_VIA
    FIELD_MAX_FORWARDS
    FIELD_FORWARDED
    FIELD_X_FORWARDED_FOR
    FIELD_X_FORWARDED_PROTO
    FIELD_X_FORWARDED_HOST
    FIELD_X_FORWARDED_PORT
    FIELD_X_REAL_IP
    FIELD_X_REQUEST_ID
    FIELD_PROXY                 # httpoxy, CVE-2016-5385
    FIELD_PROXY_AUTHENTICATE    # hop-by-hop by RFC 9110 section 11.7
    FIELD_PROXY_AUTHORIZATION
    FIELD_RETRY_AFTER
    FIELD_SEC_WEBSOCKET_KEY
    FIELD_X_CLIENT_CERT         # X-Client-Cert-*: who a client showed itself to be, said by us alone
    FIELD_X_FORWARDED_OTHER     # any other X-Forwarded-*: -Server, -Prefix, -Ssl ...

cdef enum Method:
    METHOD_OTHER = 0
    METHOD_GET
    METHOD_HEAD
    METHOD_POST
    METHOD_PUT
    METHOD_DELETE
    METHOD_OPTIONS
    METHOD_TRACE
    METHOD_CONNECT
    METHOD_PATCH

cdef enum Framing:
    FRAMING_NONE = 0            # no body
    FRAMING_LENGTH              # exactly content_length bytes
    FRAMING_CHUNKED
    FRAMING_CLOSE               # until the sender closes; responses only (RFC 9112 section 6.3 rule 8)
    FRAMING_TUNNEL              # 101, or 2xx to CONNECT: no more HTTP on this connection

cdef enum HeadFlag:
    HEAD_KEEP_ALIVE = 1         # the sender is willing to keep the connection (version and Connection considered)
    HEAD_EXPECT_CONTINUE = 2    # Expect: 100-continue on an HTTP/1.1 request with a body
    HEAD_UPGRADE = 4            # Connection: upgrade together with an Upgrade field
    HEAD_IDEMPOTENT = 8         # GET, HEAD, OPTIONS, TRACE, PUT, DELETE (RFC 9110 section 9.2.2)
    HEAD_ASTERISK = 16          # the target is "*"
    HEAD_ABSOLUTE = 32          # the target came in absolute-form; path and authority were taken out of it
    HEAD_WEBSOCKET = 64         # HEAD_UPGRADE and the Upgrade field is exactly "websocket"
    HEAD_H2C = 128              # Upgrade names h2c: never passed on
    HEAD_TE_TRAILERS = 256      # TE: trailers

cdef struct Head:
    const char *base            # the buffer every span is relative to
    Field *fields
    uint16_t field_count
    uint16_t field_capacity
    # parser progress, so that a head that arrives byte by byte is scanned once
    uint32_t position           # first byte not parsed yet
    uint32_t scanned            # first byte not searched for a line end yet
    uint32_t line               # lines parsed so far (0 = the start line is still to come)
    uint32_t length             # bytes of the complete head, its final CRLF CRLF included
    # the start line
    uint8_t method              # Method
    uint8_t minor_version       # 0 or 1
    uint16_t status             # responses: 100..999
    Span method_text
    Span target                 # as received
    Span path                   # origin-form, exactly the bytes that are forwarded and matched ("*" for OPTIONS *)
    Span authority              # host[:port]: of an absolute-form target, else of the Host field; may be empty
    Span host                   # authority without the port
    Span reason                 # responses
    # framing and meaning
    uint8_t framing             # Framing
    uint8_t error               # ParseError of the last failed call
    uint16_t flags              # HeadFlag
    int16_t max_forwards        # -1 = absent
    int64_t content_length      # -1 = absent
    uint16_t keep_alive_timeout # seconds of a response's Keep-Alive: timeout=N; 0 = absent
