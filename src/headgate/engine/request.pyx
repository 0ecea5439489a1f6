"""What policy may ask about a request: a lazy view of its head. Asking for a header makes that header's bytes, nothing more."""
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memchr, memcmp

from headgate.engine.address cimport Address
from headgate.engine.head cimport FIELD_COOKIE, Field, Head


cdef bint _same_ignoring_case(const char *a, const char *b, size_t size) noexcept nogil:
    """b is lower case."""
    cdef size_t i
    cdef uint8_t c
    for i in range(size):
        c = <uint8_t>a[i]
        if 65 <= c <= 90:
            c += 32
        if c != <uint8_t>b[i]:
            return False
    return True


cdef bint cookie_value(Head *head, const char *name, size_t name_size, const char **value, size_t *value_size) noexcept nogil:
    """Finds cookie `name` in the Cookie fields (RFC 6265 section 4.2.1)."""
    cdef uint16_t i
    cdef Field *field
    cdef const char *at
    cdef const char *end
    cdef const char *semicolon
    cdef const char *stop
    for i in range(head.field_count):
        field = &head.fields[i]
        if field.id != FIELD_COOKIE:
            continue
        at = head.base + field.value_off
        end = at + field.value_len
        while at < end:
            while at < end and (at[0] == b' ' or at[0] == b';'):
                at += 1
            semicolon = <const char *>memchr(at, b';', end - at)
            stop = semicolon if semicolon != NULL else end
            if <size_t>(stop - at) > name_size and at[name_size] == b'=' and memcmp(at, name, name_size) == 0:
                value[0] = at + name_size + 1
                value_size[0] = stop - at - name_size - 1
                while value_size[0] and value[0][value_size[0] - 1] == b' ':
                    value_size[0] -= 1
                return True
            at = stop
    return False


cdef class Request:
    """What a strategy may ask about a request. Valid only during the call that got it; every access makes a copy."""

    cdef Head *_get(self) except NULL:
        if self._head == NULL:
            raise RuntimeError("this Request is no longer valid: keep copies of what you need, not the Request")
        return self._head

    @property
    def method(self) -> str:
        cdef Head *head = self._get()
        return head.base[head.method_text.off:head.method_text.off + head.method_text.len].decode("latin-1")

    @property
    def path(self) -> bytes:
        """Path and query, exactly the bytes that are forwarded."""
        cdef Head *head = self._get()
        return head.base[head.path.off:head.path.off + head.path.len]

    @property
    def host(self) -> bytes:
        """Host without port, lower case; empty when the client sent none."""
        cdef Head *head = self._get()
        return (<bytes>head.base[head.host.off:head.host.off + head.host.len]).lower()

    @property
    def client(self) -> str:
        """The client's address as text (the rightmost untrusted one); "unix" for a unix socket."""
        self._get()
        return self._client_text[:self._client_length].decode("ascii")

    @property
    def client_bytes(self) -> bytes:
        """The client's address as 16 bytes, IPv4 as ::ffff:a.b.c.d."""
        return self.client_key()

    cdef bytes client_key(self):
        self._get()
        return (<char *>self._client.bytes)[:16]

    @property
    def idempotent(self) -> bool:
        self._get()
        return self._idempotent

    def header(self, str name) -> bytes | None:
        """Value of the first field of this name (in any case), or None."""
        cdef Head *head = self._get()
        cdef bytes wanted = name.lower().encode("latin-1")
        cdef uint16_t i
        cdef Field *field
        for i in range(head.field_count):
            field = &head.fields[i]
            if field.name_len == len(wanted) and _same_ignoring_case(head.base + field.name_off, wanted, field.name_len):
                return head.base[field.value_off:field.value_off + field.value_len]
        return None

    def cookie(self, str name) -> bytes | None:
        """Value of this cookie, or None."""
        cdef Head *head = self._get()
        cdef bytes wanted = name.encode("latin-1")
        cdef const char *value
        cdef size_t size
        if cookie_value(head, wanted, len(wanted), &value, &size):
            return value[:size]
        return None


cdef Request _view = Request()

cdef extern from *:
    """
    #define HG_KEPT(object) (Py_REFCNT(object) > 2)
    """
    bint HG_KEPT(object)


cdef Request lend(Head *head, const char *client_text, uint16_t client_length, const Address *client, bint idempotent):
    """The view a policy call gets. One object serves all calls, unless somebody kept it."""
    global _view
    cdef Request view = _view
    view._head = head
    view._client_text = client_text
    view._client_length = client_length
    view._client = client
    view._idempotent = idempotent
    return view


cdef void take_back(Request view) noexcept:
    global _view
    view._head = NULL
    # One reference is _view, one the caller's variable; more than that, and somebody kept it: it stays invalid for ever.
    if HG_KEPT(view):
        _view = Request()
