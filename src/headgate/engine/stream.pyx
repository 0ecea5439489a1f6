"""Abstract ends of an exchange: see stream.pxd. What is not overridden does nothing."""
from libc.stdint cimport int64_t


cdef class ExchangeBase(Handler):
    cdef void request_head(self) noexcept:
        pass

    cdef int64_t request_body(self, const char *data, size_t size, bint last) noexcept:
        return 0

    cdef bint request_end(self, const char *trailer, size_t trailer_size) noexcept:
        return True

    cdef void client_writable(self) noexcept:
        pass

    cdef void client_gone(self, int kind) noexcept:
        pass

    cdef void upstream_connected(self) noexcept:
        pass

    cdef void upstream_writable(self) noexcept:
        pass

    cdef bint response_head(self, Head *head, bint more) noexcept:
        return False

    cdef int64_t response_body(self, const char *data, size_t size, bint last) noexcept:
        return 0

    cdef bint can_splice_response(self) noexcept:
        return False

    cdef int64_t response_pipe(self, int pipe_fd, size_t size, bint last) noexcept:
        return 0

    cdef void response_end(self, const char *trailer, size_t trailer_size) noexcept:
        pass

    cdef void upstream_failed(self, int kind) noexcept:
        pass

    cdef void place_offered(self) noexcept:
        pass


cdef class Stream(Handler):
    cdef int send_response(self, Head *head, const Answer *answer) noexcept:
        return SEND_BROKEN

    cdef int send_request(self, Head *head, const Forward *forward) noexcept:
        return SEND_BROKEN

    cdef int64_t send_body(self, const char *data, size_t size, bint last) noexcept:
        return SEND_BROKEN

    cdef int send_end(self, const char *trailer, size_t trailer_size) noexcept:
        return SEND_BROKEN

    cdef int flush(self) noexcept:
        return SEND_BROKEN

    cdef bint discard_unsent(self) noexcept:
        return False

    cdef void resume(self) noexcept:
        pass

    cdef void write_failed(self) noexcept:
        pass

    cdef void begin_tunnel(self) noexcept:
        pass

    cdef void abort(self) noexcept:
        pass

    cdef void send_local(self, int status, const char *fields, const char *content_type, const char *body, size_t size, bint close) noexcept:
        pass

    cdef void skip_body(self) noexcept:
        pass

    cdef bint rewind(self) noexcept:
        return False

    cdef void ends(self, ProxyHeader *out) noexcept:
        pass

    cdef void complete(self, bint keep) noexcept:
        pass

    cdef bint can_splice(self) noexcept:
        return False

    cdef int64_t splice_body(self, int pipe_fd, size_t size) noexcept:
        return SEND_BROKEN
