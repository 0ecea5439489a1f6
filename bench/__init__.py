"""Benchmarks. `make bench` runs `bench.run`, which compares CPU per request with nginx and HAProxy.

`run`      the program: takes turns, prints and stores the table
`cases`    what is measured: a kind of traffic each
`proxies`  nginx, HAProxy, Headgate and a bare relay, each with one worker on one core
`floor`    the bare relay: four system calls and nothing else (built and started by `floor_main`)
`load`     wrk, and what it prints
`cpu`      processor time of a process tree
`report`   medians, ratios, intervals, the table
"""
