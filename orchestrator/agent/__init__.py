"""The node: registration and heartbeat, one worker per pod, volumes, probes, images, status, the agent's API."""
