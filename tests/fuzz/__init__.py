"""Hostile peers against the running engine: real sockets, one thread, and after each run nothing may be left over."""
