"""The agent's own HTTPS API: logs, exec, attach, port-forward and what it knows of its pods."""
