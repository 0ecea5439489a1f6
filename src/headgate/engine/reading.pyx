"""What compiled strategies read of the engine's objects without a detour through Python's attributes: `backend.active` took 180 instructions.

All of it works with any object that looks the same, too (a test's, a simulation's, the other way round a user's `hash64`): then the attribute is what
is read. For plain Python the attribute itself is quicker.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport exp
from libc.stdint cimport int64_t, uint64_t

from headgate.engine.hashing cimport hash64_bytes
from headgate.engine.model cimport Backend
from headgate.engine.outcome cimport Outcome
from headgate.engine.request cimport Request

from headgate.engine.hashing import hash64 as our_hash64

cdef object _hash64 = our_hash64


cpdef int64_t in_flight(object backend) except? -1:
    if type(backend) is Backend:
        return (<Backend>backend).in_flight()
    return backend.active


cpdef double good_answer_s(object outcome) except? -1.0:
    cdef Outcome known
    cdef double first_byte_s
    if type(outcome) is Outcome:
        known = <Outcome>outcome
        if not known.ok or known.status >= 400:
            return -1.0
        first_byte_s = known.first_byte_s
    else:
        if not outcome.ok or outcome.status >= 400:
            return -1.0
        first_byte_s = outcome.first_byte_s
    return first_byte_s if first_byte_s > 0.0 else 0.0


cpdef double remaining(double age_s, double decay_s) noexcept:
    return exp(-age_s / decay_s)


cpdef bytes client_key(object request):
    if type(request) is Request:
        return (<Request>request).client_key()
    return request.client_bytes


cpdef uint64_t hashed(object hash64, bytes key, uint64_t seed) except? 0:
    if hash64 is _hash64 and key is not None:
        return hash64_bytes(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), seed)
    return hash64(key, seed)
