"""Conversations between clients, a balancer and its backends, each told in the order in which it happens.

Client, backends and the real engine (real sockets, real timers, real policy) live in one thread: `>>` says something,
`<<` expects to hear something, and the engine runs only while somebody listens. So every interleaving is the one that
is written down, and nothing sleeps: who waits, waits for the engine's own events. See conversation.py.
"""
