"""Where backend addresses come from."""
