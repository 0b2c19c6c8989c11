"""Real servers with a private configuration on ephemeral loopback ports, one module each.

Every one is a context manager whose body runs while the server answers. None needs systemd, none
touches the configuration of the host, and none outlives the test process: whatever is started in the
foreground is told by the kernel to stop when its parent dies (``setpriv --pdeathsig``).
"""
