"""Why a request goes where it goes: the same decision as the engine's, made without sending anything.

`question` is what is asked and `answer` what is said; `routes`, `standing` and `picking` each find out one part of it;
`decide` puts them together as `engine/exchange.pyx` does. `of_file` answers from a configuration alone; in a running
balancer a worker answers (`runtime/explaining.py`), since only it knows whose turn it is. `text` is for eyes.
"""
