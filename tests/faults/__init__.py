"""The fault matrix: what breaks in practice, each with its stated outcome, under load and with default settings.

Every row is a scenario in processes and a network namespace of its own, so that rows run side by side, have all ports
for themselves, and may drop packets or stop processes as they like. `rows/` holds the rows by concern.

`matrix`   the decorator that makes a function a row; all rows by number
`world`    what a row is given: starts backends, the balancer and the load, looks at them, ends them
`servers`  backends as processes: an application, and the ways to misbehave; a journal that survives SIGKILL
`load`     the load client as a process: what counts as failed, latencies, never a retry
`sockets`  many raw connections from one process (slowloris, idle ones, storms)
`network`  namespaces, packet filters, links
`run`      one row in this process: python -m tests.faults.run 03-killed_under_load
`soak`     mixed load with random faults: python -m tests.faults.soak --seconds 600

`HEADGATE_FAULTS=long` (make faults-long) makes rows as long as the faults they are about.
"""
