"""The scenario of the simulation at a fifth of its speed: what real processes can keep up with on a busy machine, so
that what is measured are the servers' times and not the machine's.

Only the stall is not five times as rare: each turn has one, of the same part of the time.
"""

from __future__ import annotations

from dataclasses import replace

from headgate.simulate import MEAN_S, Stall
from headgate.simulate import SERVERS as MODEL

SLOWER = 5.0
SERVICE_S = MEAN_S * SLOWER
WARM_UP_S = 6.0
STALL = Stall(for_s=1.25, every_s=25.0, offset_s=WARM_UP_S + 10.0)
MEASURED_S = 25.0
SERVERS = tuple(replace(server, stall=STALL if server.stall else None) for server in MODEL)
CAPACITY = sum(server.capacity(SERVICE_S) for server in SERVERS)
