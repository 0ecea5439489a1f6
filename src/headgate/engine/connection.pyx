"""HTTP/1 connection, either side: how bytes get in and out. What they mean is decided by the subclasses.

Output: `outbuf` holds a head that waits for its first body bytes, and whatever the kernel did not take of framing. Body
bytes themselves are never copied here: what the kernel does not take stays with whoever offered it.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memmove

from headgate.engine.buffers cimport SMALL_BUFFER, Buffer, buffer_acquire, buffer_release
from headgate.engine.head cimport FRAMING_CHUNKED, FRAMING_TUNNEL
from headgate.engine.http1 cimport chunk_head
from headgate.engine.libc_net cimport (
    EAGAIN, EINTR, MSG_NOSIGNAL, SHUT_WR, SO_LINGER, SOL_SOCKET, SPLICE_F_MOVE, SPLICE_F_NONBLOCK, errno, iovec, msghdr, recv, send,
    sendmsg, setsockopt, shutdown, splice,
)
from headgate.engine.stream cimport SEND_BROKEN, Stream


cdef enum:
    # So many bytes are copied sooner than the kernel has read a second iovec (sendmsg costs 0.2 us more than send).
    COPIED_BODY = 2048

cdef struct linger_option:
    int l_onoff
    int l_linger


cdef class Connection(Stream):
    cdef int reserve_out(self, size_t size) noexcept:
        """Room for `size` more bytes in outbuf. 0, or SEND_BROKEN when no buffer can be had."""
        cdef Buffer *grown
        cdef size_t pending = self.out_end - self.out_pos
        if self.outbuf == NULL:
            self.outbuf = buffer_acquire(&self.ctx.buffers, size)
            self.out_pos = self.out_end = 0
            return 0 if self.outbuf != NULL else SEND_BROKEN
        if self.outbuf.capacity - self.out_end >= size:
            return 0
        if self.outbuf.capacity >= pending + size:
            memmove(self.outbuf.data, self.outbuf.data + self.out_pos, pending)
        else:
            grown = buffer_acquire(&self.ctx.buffers, pending + size)
            if grown == NULL:
                return SEND_BROKEN
            memcpy(grown.data, self.outbuf.data + self.out_pos, pending)
            buffer_release(&self.ctx.buffers, self.outbuf)
            self.outbuf = grown
        self.out_pos = 0
        self.out_end = <uint32_t>pending
        return 0

    cdef void release_in(self) noexcept:
        if self.inbuf != NULL:
            buffer_release(&self.ctx.buffers, self.inbuf)
            self.inbuf = NULL
        self.in_pos = self.in_end = 0

    cdef int64_t receive(self, size_t want) noexcept:
        """Read once into inbuf behind in_end. `want`: the size of the buffer to take if there is none yet."""
        cdef ssize_t got
        cdef size_t space
        if self.inbuf == NULL:
            self.inbuf = buffer_acquire(&self.ctx.buffers, want)
            if self.inbuf == NULL:
                return -3
            self.in_pos = self.in_end = 0
        space = self.inbuf.capacity - self.in_end
        if self.tls is not None:
            return self._receive_tls(space)
        while True:
            got = recv(self.fd, self.inbuf.data + self.in_end, space, 0)
            if got > 0:
                self.in_end += <uint32_t>got
                if <size_t>got < space and not self.hung_up:
                    # The socket was emptied; the next bytes bring an edge of their own.
                    self.readable = False
                return got
            if got == 0:
                self.readable = False
                return 0
            if errno == EAGAIN:
                self.readable = False
                return -1
            if errno != EINTR:
                self.readable = False
                return -2

    cdef int64_t _receive_tls(self, size_t space) noexcept:
        cdef int64_t got
        got = self.tls.receive(self.fd, &self.ctx.buffers, self.inbuf.data + self.in_end, space)
        if got > 0:
            self.in_end += <uint32_t>got
            self.readable = self.tls.more()
        elif got != -3:
            self.readable = False
        return got

    cdef int64_t _write_tls(self, iovec *parts, int count) noexcept:
        cdef int64_t taken = self.tls.write(self.fd, parts, count, &self.out_total)
        if taken < 0:
            return SEND_BROKEN
        if self.tls.unsent is not None:
            self.writable = False
        return taken

    cdef bint all_sent(self) noexcept:
        return self.out_end == self.out_pos and (self.tls is None or self.tls.unsent is None)

    cdef int end_writing(self) noexcept:
        self.half_closed = True
        if self.tls is not None and not self.tls.notify_close(self.fd):
            return 0        # it still has to go out; FIN comes with close()
        return shutdown(self.fd, SHUT_WR)

    cdef int64_t _write(self, iovec *parts, int count) noexcept:
        """Bytes that the kernel took (0 = none now), or SEND_BROKEN. Of TLS: bytes that are encrypted, and so cannot be taken back."""
        cdef msghdr message
        cdef ssize_t sent
        if self.tls is not None:
            return self._write_tls(parts, count)
        message.msg_name = NULL
        message.msg_namelen = 0
        message.msg_iov = parts
        message.msg_iovlen = count
        message.msg_control = NULL
        message.msg_controllen = 0
        message.msg_flags = 0
        while True:
            if count == 1:
                sent = send(self.fd, parts[0].iov_base, parts[0].iov_len, MSG_NOSIGNAL)
            else:
                sent = sendmsg(self.fd, &message, MSG_NOSIGNAL)
            if sent >= 0:
                self.out_total += sent
                return sent
            if errno == EAGAIN:
                self.writable = False
                return 0
            if errno != EINTR:
                return SEND_BROKEN

    cdef int flush(self) noexcept:
        cdef iovec part
        cdef int64_t sent
        cdef size_t pending = self.out_end - self.out_pos
        if self.fd < 0:
            return SEND_BROKEN
        if pending == 0:
            if self.tls is not None and self.tls.unsent is not None:
                return self._push()
            self._flushed()
            return 1
        if not self.writable:
            return 0
        part.iov_base = self.outbuf.data + self.out_pos
        part.iov_len = pending
        sent = self._write(&part, 1)
        if sent < 0:
            return SEND_BROKEN
        if <size_t>sent == pending:
            buffer_release(&self.ctx.buffers, self.outbuf)
            self.outbuf = NULL
            self.out_pos = self.out_end = 0
            if self.tls is not None and self.tls.unsent is not None:
                return 0
            self._flushed()
            return 1
        self.out_pos += <uint32_t>sent
        self.writable = False
        return 0

    cdef int _push(self) noexcept:
        """flush() where all that is left is encrypted already."""
        cdef int sent
        if not self.writable:
            return 0
        sent = self.tls.push(self.fd)
        if sent == 1:
            self._flushed()
        elif sent == 0:
            self.writable = False
        return sent if sent >= 0 else SEND_BROKEN

    cdef void _flushed(self) noexcept:
        if self.end_output and not self.half_closed:
            self.end_writing()

    cdef int64_t send_body(self, const char *data, size_t size, bint last) noexcept:
        """Head that waits, chunk framing and payload in one system call. Returns payload bytes taken."""
        cdef iovec parts[4]
        cdef char frame[24]
        cdef const char *tail = NULL
        cdef int count = 0
        cdef size_t pending = self.out_end - self.out_pos
        cdef size_t frame_size = 0, tail_size = 0, take = size, left
        cdef int64_t sent
        if self.fd < 0:
            return SEND_BROKEN
        if not self.writable:
            return 0
        if size == 0:
            return 0
        if pending:
            parts[count].iov_base = self.outbuf.data + self.out_pos
            parts[count].iov_len = pending
            count += 1
        if self.out_framing == FRAMING_CHUNKED:
            if self.chunk_left == 0:
                frame_size = chunk_head(frame, size)
                self.chunk_left = size
                parts[count].iov_base = frame
                parts[count].iov_len = frame_size
                count += 1
            elif take > self.chunk_left:
                take = self.chunk_left
            if take == self.chunk_left:
                if last and take == size:
                    tail = "\r\n0\r\n\r\n"
                    tail_size = 7
                else:
                    tail = "\r\n"
                    tail_size = 2
        parts[count].iov_base = <void *>data
        parts[count].iov_len = take
        count += 1
        if tail_size:
            parts[count].iov_base = <void *>tail
            parts[count].iov_len = tail_size
            count += 1
        if count == 2 and pending and take == size and size <= COPIED_BODY and self.outbuf.capacity - self.out_end >= size:
            # Behind the head that waits, for one send() of both. It is there for this call only: out_end stays.
            memcpy(self.outbuf.data + self.out_end, data, size)
            parts[0].iov_len += size
            count = 1
        sent = self._write(parts, count)
        if sent < 0:
            return SEND_BROKEN
        left = <size_t>sent
        # What was waiting in outbuf.
        if left < pending:
            self.out_pos += <uint32_t>left
            left = 0
        else:
            left -= pending
            if pending:
                buffer_release(&self.ctx.buffers, self.outbuf)
                self.outbuf = NULL
                self.out_pos = self.out_end = 0
        # The chunk's size line: once announced it must go out, so what is left of it is kept.
        if frame_size:
            if left < frame_size:
                if self.reserve_out(frame_size - left) < 0:
                    return SEND_BROKEN
                memcpy(self.outbuf.data + self.out_end, frame + left, frame_size - left)
                self.out_end += <uint32_t>(frame_size - left)
                left = 0
                self.writable = False
                return 0
            left -= frame_size
        if left < take:
            self.writable = False
            if self.out_framing == FRAMING_CHUNKED:
                self.chunk_left -= left
            return <int64_t>left
        left -= take
        if self.out_framing == FRAMING_CHUNKED:
            self.chunk_left -= take
            if left < tail_size:
                if self.reserve_out(tail_size - left) < 0:
                    return SEND_BROKEN
                memcpy(self.outbuf.data + self.out_end, tail + left, tail_size - left)
                self.out_end += <uint32_t>(tail_size - left)
                self.writable = False
        return <int64_t>take

    cdef bint can_splice(self) noexcept:
        return (self.fd >= 0 and self.writable and self.tls is None and self.out_framing != FRAMING_CHUNKED and self.out_end == self.out_pos)

    cdef int64_t splice_body(self, int pipe_fd, size_t size) noexcept:
        cdef ssize_t sent
        if self.fd < 0:
            return SEND_BROKEN
        if not self.writable:
            return 0
        while True:
            sent = splice(pipe_fd, NULL, self.fd, NULL, size, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
            if sent > 0:
                self.out_total += sent
                # A short count may come from the pipe's page boundaries; only EAGAIN says that the socket is full.
                return sent
            if sent < 0 and errno == EINTR:
                continue
            if sent < 0 and errno == EAGAIN:
                self.writable = False
                return 0
            return SEND_BROKEN

    cdef int send_end(self, const char *trailer, size_t trailer_size) noexcept:
        """End of a body that was not announced with the last bytes. Returns like flush()."""
        if self.fd < 0:
            return SEND_BROKEN
        if self.out_framing == FRAMING_CHUNKED:
            if self.reserve_out(trailer_size + 5) < 0:
                return SEND_BROKEN
            memcpy(self.outbuf.data + self.out_end, b"0\r\n", 3)
            self.out_end += 3
            if trailer_size:
                memcpy(self.outbuf.data + self.out_end, trailer, trailer_size)
                self.out_end += <uint32_t>trailer_size
            memcpy(self.outbuf.data + self.out_end, b"\r\n", 2)
            self.out_end += 2
        elif self.out_framing == FRAMING_TUNNEL:
            self.end_output = True
        return self.flush()

    cdef bint discard_unsent(self) noexcept:
        if self.out_total:
            return False
        if self.outbuf != NULL:
            buffer_release(&self.ctx.buffers, self.outbuf)
            self.outbuf = NULL
        self.out_pos = self.out_end = 0
        self.chunk_left = 0
        return True

    cdef void reset_on_close(self) noexcept:
        """The peer is to see a reset instead of a FIN when this is closed."""
        cdef linger_option option
        if self.fd >= 0:
            if self.tls is not None:
                self.tls.broken = True          # close_notify would say that this was all
            option.l_onoff = 1
            option.l_linger = 0
            setsockopt(self.fd, SOL_SOCKET, SO_LINGER, &option, sizeof(option))

    cdef void shut(self) noexcept:
        cdef char waste[4096]
        self.release_in()
        if self.outbuf != NULL:
            buffer_release(&self.ctx.buffers, self.outbuf)
            self.outbuf = NULL
        self.out_pos = self.out_end = 0
        self.readable = self.writable = False
        if self.tls is not None:
            if self.fd >= 0:
                self.tls.notify_close(self.fd)
                if self.tls.ended:
                    # The peer's close_notify, mostly: left unread, it would make a reset of our FIN.
                    recv(self.fd, waste, sizeof(waste), 0)
            self.tls.drop(&self.ctx.buffers)
        if self.fd >= 0:
            self.ctx.forget(self)
