"""The admin API: a running balancer looked at and changed, by HTTP and JSON, in the supervisor.

`place` says where it listens, `server` serves connections within limits, `wire` reads one request (by the engine's
codec) and writes one answer, `access` says who may ask. `endpoints` is the one table of what can be asked;
`reads` and `changes` answer it with the types of `documents`, from a `Host` (`host.py`): the supervisor, or a test.
`openapi` makes the OpenAPI document of the same table, `state_file` keeps changes.
"""
