"""Requests that the balancer answers by itself: its status page, its ready page, the end of Max-Forwards, https instead of http."""
from libc.string cimport memcmp

from headgate.engine.context cimport KIND_BAD_REQUEST, KIND_INTERNAL, KIND_METHOD_NOT_ALLOWED, KIND_NO_ROUTE, KIND_OK
from headgate.engine.exchange cimport Exchange
from headgate.engine.head cimport METHOD_GET, METHOD_HEAD, METHOD_OPTIONS, METHOD_TRACE
from headgate.engine.model cimport Listener


cdef bint _path_is(Exchange x, bytes path) noexcept:
    """The request's path, without its query, is `path`."""
    cdef size_t size = len(path)
    cdef const char *at = x.request.base + x.request.path.off
    if size == 0 or x.request.path.len < size or memcmp(at, <const char *>path, size) != 0:
        return False
    return x.request.path.len == size or at[size] == b'?'


cdef bint answer_own_page(Exchange x) noexcept:
    """Requests the balancer answers by itself. True when it did."""
    cdef Listener listener = x.listener
    cdef bytes body
    cdef bint ready
    if _path_is(x, listener.status_path):
        if not listener.status_allow.contains(&x.client):
            x._answer(KIND_NO_ROUTE, 404, "no route matches this host and path")
            return True
        if not _only_read(x):
            return True
        try:
            body = <bytes?>listener.status()
        except BaseException as exception:
            x.ctx.error("the status page", exception)
            x._answer(KIND_INTERNAL, 500, "the status page failed")
            return True
        _say(x, 200, body)
        return True
    if _path_is(x, listener.ready_path):
        if not _only_read(x):
            return True
        try:
            ready = bool(listener.ready()) and not x.ctx.draining
        except BaseException as exception:
            x.ctx.error("the ready check", exception)
            ready = False
        _say(x, 200 if ready else 503, b'{"ready": true}\n' if ready else b'{"ready": false}\n')
        return True
    if x.request.max_forwards == 0 and (x.request.method == METHOD_TRACE or x.request.method == METHOD_OPTIONS):
        # RFC 9110 section 7.6.2: we are the final recipient. TRACE is not reflected: it would show inner headers.
        if x.request.method == METHOD_TRACE:
            x._answer(KIND_METHOD_NOT_ALLOWED, 405, "TRACE is not answered by the load balancer")
        else:
            _say(x, 200, b"")
        return True
    return False


cdef bint _only_read(Exchange x) noexcept:
    """Pages of our own are there to be read."""
    if x.request.method == METHOD_GET or x.request.method == METHOD_HEAD:
        return True
    x._answer(KIND_METHOD_NOT_ALLOWED, 405, "this page can only be read")
    return False


cdef void redirect_to_https(Exchange x) noexcept:
    """To the same place by https. 301 for what browsers navigate by, 308 for the rest: it forbids turning a POST into a GET."""
    cdef bytes port = b"" if x.listener.redirect_https == 443 else b":%d" % x.listener.redirect_https
    cdef bytes fields, path
    cdef bint reading = x.request.method == METHOD_GET or x.request.method == METHOD_HEAD
    if x.request.host.len == 0:
        x._answer(KIND_BAD_REQUEST, 400, "no host: where to go by https cannot be told")
        return
    path = <bytes>x.request.base[x.request.path.off:x.request.path.off + x.request.path.len]
    if not path.startswith(b"/"):
        path = b"/"         # OPTIONS *
    fields = (b"Location: https://" + <bytes>x.request.base[x.request.host.off:x.request.host.off + x.request.host.len] + port
              + path + b"\r\n")
    x.say(KIND_OK, 301 if reading else 308, fields, "text/plain", "", 0)


cdef void _say(Exchange x, int status, bytes body) noexcept:
    x.say(KIND_OK, status, "Cache-Control: no-store\r\n", "application/json", body, len(body))
