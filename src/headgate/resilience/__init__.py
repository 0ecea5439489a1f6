"""What happens when backends fail. Pure policy: no I/O, time comes in as an argument, randomness is passed in.

`detector` (worker) counts outcomes and says when a backend should be taken out; `breaker` (supervisor) decides whether
and for how long; `health_state` (supervisor) is the counter behind the active checks; `eligibility` turns all their
results into the set a strategy may pick from; `retry` says whether a failed request may go to another backend.
"""
