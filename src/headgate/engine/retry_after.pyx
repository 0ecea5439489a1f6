"""Retry-After (RFC 9110 section 10.2.3): a number of seconds, or an HTTP-date in any of the three forms of section 5.6.7.

Only answers 429 and 503 are looked at, so nothing here is on the way of an ordinary request.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcmp, memset

cdef extern from "<time.h>" nogil:
    ctypedef int64_t time_t
    struct tm:
        int tm_sec, tm_min, tm_hour, tm_mday, tm_mon, tm_year
    time_t timegm(tm *parts)
    tm *gmtime_r(const time_t *moment, tm *parts)

cdef const char *_MONTHS = b"JanFebMarAprMayJunJulAugSepOctNovDec"

# Further than this nobody means: what follows from it is bounded far below anyway.
cdef double LONGEST_S = 1e9


cdef int _number(const char *at, int digits) noexcept nogil:
    """So many digits; -1 when one is none."""
    cdef int value = 0, i
    for i in range(digits):
        if at[i] < b'0' or at[i] > b'9':
            return -1
        value = value * 10 + (at[i] - 48)
    return value


cdef int _month(const char *at) noexcept nogil:
    cdef int i
    for i in range(12):
        if memcmp(at, _MONTHS + 3 * i, 3) == 0:
            return i
    return -1


cdef bint _time(const char *at, tm *parts) noexcept nogil:
    """hh:mm:ss; a leap second is a second."""
    parts.tm_hour = _number(at, 2)
    parts.tm_min = _number(at + 3, 2)
    parts.tm_sec = _number(at + 6, 2)
    return (at[2] == b':' and at[5] == b':' and 0 <= parts.tm_hour < 24 and 0 <= parts.tm_min < 60 and 0 <= parts.tm_sec <= 60)


cdef bint _http_date(const char *value, size_t size, int64_t wall_s, int64_t *moment) noexcept nogil:
    cdef tm parts, today
    cdef size_t comma = 0
    cdef const char *at
    cdef int year
    memset(&parts, 0, sizeof(parts))
    while comma < size and comma < 10 and value[comma] != b',':
        comma += 1
    if comma == 3 and size == 29:                       # Sun, 06 Nov 1994 08:49:37 GMT
        at = value + 5
        year = _number(at + 7, 4)
        parts.tm_mday = _number(at, 2)
        parts.tm_mon = _month(at + 3)
        if value[4] != b' ' or at[2] != b' ' or at[6] != b' ' or at[11] != b' ' or memcmp(at + 20, b" GMT", 4) != 0 or not _time(at + 12, &parts):
            return False
    elif 6 <= comma <= 9 and size == comma + 24:        # Sunday, 06-Nov-94 08:49:37 GMT
        at = value + comma + 2
        year = _number(at + 7, 2)
        parts.tm_mday = _number(at, 2)
        parts.tm_mon = _month(at + 3)
        if (at - 1)[0] != b' ' or at[2] != b'-' or at[6] != b'-' or at[9] != b' ' or memcmp(at + 18, b" GMT", 4) != 0 or not _time(at + 10, &parts):
            return False
        if year >= 0:
            # Two digits that look more than 50 years ahead mean the past (section 5.6.7).
            gmtime_r(&wall_s, &today)
            year += (today.tm_year + 1900) // 100 * 100
            if year > today.tm_year + 1900 + 50:
                year -= 100
    elif size == 24:                                    # Sun Nov  6 08:49:37 1994
        at = value + 4
        year = _number(at + 16, 4)
        parts.tm_mday = _number(at + 4, 2) if at[4] != b' ' else _number(at + 5, 1)
        parts.tm_mon = _month(at)
        if (at - 1)[0] != b' ' or at[3] != b' ' or at[6] != b' ' or at[15] != b' ' or not _time(at + 7, &parts):
            return False
    else:
        return False
    if year < 0 or parts.tm_mon < 0 or not 1 <= parts.tm_mday <= 31:
        return False
    parts.tm_year = year - 1900
    moment[0] = timegm(&parts)
    return True


cdef double retry_after_s(const char *value, size_t size, int64_t wall_s) noexcept nogil:
    cdef int64_t moment = 0
    cdef double seconds = 0
    cdef size_t i
    if size == 0:
        return -1
    if not b'0' <= value[0] <= b'9':
        if not _http_date(value, size, wall_s, &moment):
            return -1
        seconds = <double>(moment - wall_s)
        return 0.0 if seconds < 0 else (seconds if seconds < LONGEST_S else LONGEST_S)
    for i in range(size):
        if not b'0' <= value[i] <= b'9':
            return -1
        if seconds < LONGEST_S:
            seconds = seconds * 10 + (value[i] - 48)
    return seconds if seconds < LONGEST_S else LONGEST_S


def parse_retry_after(bytes value not None, int64_t wall_s):
    cdef double seconds = retry_after_s(value, len(value), wall_s)
    return None if seconds < 0 else seconds
