"""What policy is told when an attempt ends: one object for all attempts, unless somebody keeps it.

A learning strategy reads three or four fields of it for each request. The properties that Cython would make of C numbers cost
a call and a new number for each look, 0.02 µs; a member of a type, as `__slots__` makes them, is one that the interpreter reads without
a call once it knows the place (PEP 659, LOAD_ATTR_SLOT). So the fields are members.
"""
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from headgate.errors import Kind, Verdict

cdef extern from *:
    """
    #include <structmember.h>

    enum { HG_FIELDS = 7 };
    static PyMemberDef hg_fields[HG_FIELDS];    /* the type refers to them for ever */

    static int hg_add_field(PyObject *type, int index, const char *name, Py_ssize_t offset, const char *doc) {
        PyMemberDef *field = &hg_fields[index];
        PyObject *member;
        int failed;
        field->name = name;
        field->type = T_OBJECT_EX;
        field->offset = offset;
        field->flags = READONLY;
        field->doc = doc;
        member = PyDescr_NewMember((PyTypeObject *)type, field);
        if (member == NULL) return -1;
        failed = PyDict_SetItemString(((PyTypeObject *)type)->tp_dict, name, member);
        Py_DECREF(member);
        PyType_Modified((PyTypeObject *)type);
        return failed;
    }

    static void hg_put(PyObject **field, PyObject *value) {     /* takes the reference */
        PyObject *before = *field;
        *field = value;
        Py_XDECREF(before);
    }

    #define HG_SHARED(object) (Py_REFCNT(object) > 1)
    """
    int hg_add_field(object type, int index, const char *name, Py_ssize_t offset, const char *doc) except -1
    void hg_put(PyObject **field, PyObject *value) noexcept
    bint HG_SHARED(object)
    PyObject *PyLong_FromLong(long value) except NULL
    PyObject *PyFloat_FromDouble(double value) except NULL
    PyObject *PyBool_FromLong(long value) noexcept
    void Py_XDECREF(PyObject *thing) noexcept


cdef class Outcome:
    """How an attempt ended: `kind` (`headgate.errors.Kind`), `status` (0 = no answer), `verdict` (`headgate.errors.Verdict`: what it
    says about the backend), seconds to the first byte (-1 = none) and in all, and seconds that a 429 or 503 asked for by Retry-After (-1 = none)."""

    def __dealloc__(self):
        Py_XDECREF(self.kind)
        Py_XDECREF(self.verdict)
        Py_XDECREF(self.status)
        Py_XDECREF(self.first_byte_s)
        Py_XDECREF(self.total_s)
        Py_XDECREF(self.retry_after_s)
        Py_XDECREF(self.ok)

    def __deepcopy__(self, memo):
        return self     # it never changes once somebody has it (explain/picking.py copies strategies, and what they remember)

    def __repr__(self) -> str:
        cdef object own = self     # the members, not the C fields
        return f"<Outcome {Kind(own.kind).name} status={own.status} first_byte_s={own.first_byte_s:.6f} total_s={own.total_s:.6f}>"


cdef int _add_fields() except -1:
    cdef Outcome one = Outcome.__new__(Outcome)
    cdef char *start = <char *><PyObject *>one
    hg_add_field(Outcome, 0, "kind", <char *>&one.kind - start, "A headgate.errors.Kind.")
    hg_add_field(Outcome, 1, "verdict", <char *>&one.verdict - start, "A headgate.errors.Verdict: what it says about the backend.")
    hg_add_field(Outcome, 2, "status", <char *>&one.status - start, "Of the response; 0 = none.")
    hg_add_field(Outcome, 3, "first_byte_s", <char *>&one.first_byte_s - start, "Seconds to the first byte of the response; -1.0 = none came.")
    hg_add_field(Outcome, 4, "total_s", <char *>&one.total_s - start, "Seconds in all.")
    hg_add_field(Outcome, 5, "retry_after_s", <char *>&one.retry_after_s - start, "Seconds that a 429 or 503 asked for by Retry-After; -1.0 = it did not.")
    hg_add_field(Outcome, 6, "ok", <char *>&one.ok - start, "Is it a success as far as the backend is concerned?")
    return 0

_add_fields()

cdef Outcome _spare = None
cdef int SUCCESS = int(Verdict.SUCCESS)


cdef Outcome outcome_lend(int kind, int verdict, int status, int64_t first_byte, int64_t total, double retry_after_s):
    """To be told; a call may lead to the end of another attempt, which gets one of its own."""
    global _spare
    cdef Outcome outcome = _spare
    _spare = None
    if outcome is None:
        outcome = Outcome.__new__(Outcome)
    hg_put(&outcome.kind, PyLong_FromLong(kind))
    hg_put(&outcome.verdict, PyLong_FromLong(verdict))
    hg_put(&outcome.status, PyLong_FromLong(status))
    hg_put(&outcome.first_byte_s, PyFloat_FromDouble(first_byte / 1e9 if first_byte >= 0 else -1.0))
    hg_put(&outcome.total_s, PyFloat_FromDouble(total / 1e9))
    hg_put(&outcome.retry_after_s, PyFloat_FromDouble(retry_after_s))
    hg_put(&outcome.ok, PyBool_FromLong(verdict == SUCCESS))
    return outcome


cdef void outcome_take_back(Outcome outcome) noexcept:
    """Somebody who kept it has it for good, and it says what it said."""
    global _spare
    if not HG_SHARED(outcome):
        _spare = outcome
