"""Benchmarks. `make bench` runs `bench.run`, which compares CPU per request with nginx, HAProxy and Caddy.

`run`          the program: takes turns, prints and stores table, chart and JSON
`cases`        what is measured: a kind of traffic each, with its goals (`goals`)
`proxies`      nginx, HAProxy, Caddy, Headgate and the bare relays, each with one worker on one core
`floor`        the bare relays: recv and send, or splice, and nothing else (built and started by `floor_main`)
`floor_uring`  the first of them on io_uring, where the kernel allows it
`load`         wrk, and what it prints
`cpu`          processor time of a process tree
`measurement`  one turn, and the interval of several; `report` and `chart` show them
`memory`       bytes at start, per idle client, under slow readers
`check`        instructions per request against the commit before, counted by callgrind (`conversation` is what is said)
`scale`        4,000 routes and 5,000 backends
`strategies`   a pick and an update of each strategy by themselves
`order`        does the simulated order of the strategies hold for real processes?
"""
