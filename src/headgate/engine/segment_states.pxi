# Included by stats.pyx.

cdef class SegmentStates(SegmentSums):
    """What the supervisor knows of backends: written by it alone, read by anyone."""

    def set_backend(self, int slot, *, flags=None, weight=None, str reason=None, since_ms=None, ramp=None,
                    penalty=None):
        """Writes what is given of a backend's state and leaves the rest; bump_generation() makes workers look.

        flags: PRESENT, ENABLED... of this module. weight: 0 to 256, else ValueError. reason: why, cut at 215 bytes of
        UTF-8. since_ms: milliseconds since 1970 at which the state last changed. ramp: (from_ms, ms), CLOCK_MONOTONIC
        and how long; (0, 0) for none. penalty: the status by which the backend asked for the ramp; 0 when it did not.
        """
        cdef BackendState *state
        cdef uint32_t sequence
        cdef uint32_t new_flags = 0 if flags is None else flags
        cdef uint64_t new_since = 0 if since_ms is None else since_ms
        cdef bytes text = b"" if reason is None else as_reason(reason)
        cdef uint64_t ramp_from = 0 if ramp is None else ramp[0]
        cdef uint32_t ramp_for = 0 if ramp is None else ramp[1]
        cdef uint32_t asked = 0 if penalty is None else penalty
        self._check_slot(slot)
        if weight is not None and not 0 <= weight <= MAX_WEIGHT:
            raise ValueError(f"a weight is 0 to {MAX_WEIGHT}, not {weight}")
        state = self.state(slot)
        sequence = begin_write(state)
        if flags is not None:
            store32(&state.flags, new_flags)
        if weight is not None:
            store32(&state.weight, weight)
        if since_ms is not None:
            store64(&state.since_ms, new_since)
        if ramp is not None:
            store64(&state.ramp_from_ms, ramp_from)
            store32(&state.ramp_ms, ramp_for)
        if penalty is not None:
            store32(&state.penalty, asked)
        if reason is not None:
            memset(state.reason, 0, sizeof(state.reason))
            memcpy(state.reason, <const char *>text, len(text))
        end_write(state, sequence)

    def heartbeat_s(self, int worker):
        """When this worker last looked after its house, in seconds of CLOCK_MONOTONIC; 0 = never."""
        self._check_worker(worker)
        return load64(&self.worker_counters(worker).heartbeat_ms) / 1000.0

    def bump_generation(self):
        """Tells every worker that some state changed; returns the new generation."""
        self._open()
        return add_release(self.generation_word(), 1)

    def release_probe(self, int slot):
        """Frees a backend's half-open probe, whoever holds it."""
        self._check_slot(slot)
        store32_release(&self.state(slot).probe, 0)

    @property
    def generation(self):
        """How often some backend's state changed."""
        self._open()
        return load64(self.generation_word())

    def backend_flags(self, int slot):
        """BackendFlag bits."""
        self._check_slot(slot)
        return load32(&self.state(slot).flags)

    def backend_weight(self, int slot):
        """0 to 256."""
        self._check_slot(slot)
        return load32(&self.state(slot).weight)

    def backend_since_ms(self, int slot):
        """Milliseconds since 1970 at which the state last changed; 0 = never."""
        self._check_slot(slot)
        return load64(&self.state(slot).since_ms)

    def backend_ramp(self, int slot):
        """(from_ms, ms): CLOCK_MONOTONIC at which its share begins to grow, and for how long it does; (0, 0) = none."""
        self._check_slot(slot)
        return load64(&self.state(slot).ramp_from_ms), load32(&self.state(slot).ramp_ms)

    def backend_penalty(self, int slot):
        """The status (429, 503) by which the backend asked for its ramp; 0: it did not, it starts slowly."""
        self._check_slot(slot)
        return load32(&self.state(slot).penalty)

    def backend_reason(self, int slot):
        """Why the backend is in its state."""
        return self.backend_state(slot)[2]

    def backend_state(self, int slot):
        """(flags, weight, reason, since_ms), all of one moment: never half of one change and half of the next."""
        cdef BackendState *state
        cdef BackendState copy
        cdef uint32_t before
        cdef int tries
        self._check_slot(slot)
        state = self.state(slot)
        for tries in range(SPINS + SLEEPS):
            if tries > SPINS:
                with nogil:
                    usleep(SLEEP_US)
            before = load32_acquire(&state.sequence)
            memcpy(&copy, state, sizeof(BackendState))
            fence_acquire()
            if not before & 1 and load32(&state.sequence) == before:
                break
        copy.reason[sizeof(copy.reason) - 1] = 0
        return copy.flags, copy.weight, (<char *>copy.reason).decode("utf-8", "replace"), copy.since_ms

    def claim_probe(self, int slot, int worker):
        """Takes the backend's half-open probe for `worker`; False when it is taken (by this worker, too)."""
        self._check_slot(slot)
        self._check_worker(worker)
        return swap32(&self.state(slot).probe, 0, worker + 1)

    def probe_holder(self, int slot):
        """The worker that holds the half-open probe, or None."""
        self._check_slot(slot)
        held = load32(&self.state(slot).probe)
        return held - 1 if held else None

    def add_mark(self, int slot, str name, uint64_t amount=1):
        """Adds to what the supervisor counts of a backend. KeyError for an unknown name."""
        cdef uint64_t *word
        self._check_slot(slot)
        word = mark_word(self.marks(slot), name)
        store64(word, load64(word) + amount)

    def add_pool_mark(self, int pool, str name, int index, uint64_t amount=1):
        """Adds to what the supervisor counts of a pool's backends: "ejections" by EJECTION_CAUSES, "penalties" by
        PENALTY_STATUSES. KeyError for an unknown name or index."""
        cdef uint64_t *word
        self._check_pool(pool)
        word = pool_mark_word(self.pool_marks(pool), name, index)
        store64(word, load64(word) + amount)

    def add_supervisor(self, str name, uint64_t amount=1):
        """Adds to one of the supervisor's own counters. KeyError for an unknown name."""
        cdef uint64_t *word
        self._open()
        word = supervisor_word(self.supervisor(), name)
        store64(word, load64(word) + amount)

    def set_supervisor(self, str name, uint64_t value):
        """Sets one of the supervisor's own words. KeyError for an unknown name."""
        self._open()
        store64(supervisor_word(self.supervisor(), name), value)
