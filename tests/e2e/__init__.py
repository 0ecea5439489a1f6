"""End-to-end tests: real processes, real sockets, nothing mocked. `harness` holds what they are made of."""
