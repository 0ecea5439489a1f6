"""Closing a TCP listener so that nobody is reset who was told that he is connected.

The kernel completes handshakes by itself and puts the connections into the listener's queue. When the last copy of the
socket is closed, whoever stands in that queue, or is in the middle of his handshake, is reset: he may have sent a
request by then. So first the socket gets a filter that drops SYN segments, and nothing else: no new handshake begins.
Those under way have a moment to complete; then the workers accept whatever is there and close. A client whose SYN was
dropped repeats it a second later (RFC 6298 section 2) and is refused, or reaches whoever listens there by then: another
instance, or the next start.

nginx and HAProxy close without that, and lose who stands in the queue; firewalls rules that drop SYNs during a restart
are the remedy that operators use there. A filter on the socket does it without privileges.
"""

from __future__ import annotations

import ctypes
import logging
import socket
import struct
from collections.abc import Iterable
from ipaddress import ip_address

log = logging.getLogger("headgate.supervisor")

# From <asm-generic/socket.h>; Python's socket module does not name it.
_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
# Classic BPF over the TCP header (linux/filter.h): (code, jump if true, jump if false, operand).
_DROP_SYN = (
    (0x30, 0, 0, 13),  # A = the byte of flags
    (0x54, 0, 0, 0x12),  # A &= SYN | ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # take all of it
)
# Long enough for the last segment of a handshake from the other side of the earth. On loopback handshakes take no time.
HANDSHAKE_S = 0.25


def let_in_no_more(sockets: Iterable[socket.socket]) -> float:
    """No new connection comes about at these listening sockets; those that have are still to be accepted.

    Returns for how many seconds handshakes may still be under way. A unix socket needs none of this: connecting and
    queueing are one step there, and its file goes first.
    """
    wait_s = 0.0
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in _DROP_SYN)
    program = ctypes.create_string_buffer(code, len(code))
    for sock in sockets:
        if sock.family == socket.AF_UNIX:
            continue
        try:
            sock.setsockopt(
                socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_DROP_SYN), ctypes.addressof(program))
            )
        except OSError as error:  # a sandbox may forbid it: then it is as with everybody else
            log.debug("no filter on the listener: %s", error)
            continue
        if not ip_address(sock.getsockname()[0].partition("%")[0]).is_loopback:
            wait_s = HANDSHAKE_S
    return wait_s


def let_in_again(sockets: Iterable[socket.socket]) -> None:
    """Take back `let_in_no_more`."""
    for sock in sockets:
        if sock.family != socket.AF_UNIX:
            try:
                sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            except OSError:
                continue  # it had none
