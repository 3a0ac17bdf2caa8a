"""Device plugins: devices of the host as resources of the node."""
