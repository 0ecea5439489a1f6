"""Strategies: which backend serves a request. One file each, plain Python, no I/O.

`base` holds the interfaces, `registry` finds a strategy by name or in a user's own module, `sticky` makes the cookie
that binds a session to a backend (the engine looks it up before it asks a strategy).

A strategy is told the set it may pick from (`update`) and then asked for each attempt (`pick`). The set changes rarely
and a pick happens for every request, so work is moved from `pick` to `update`: a pick costs O(1) or O(log n), and 1,000
backends cost what three do. State of a backend that stays in the set survives `update`; backends are told apart by
identity, not by name.
"""
