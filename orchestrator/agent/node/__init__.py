"""The node as the API sees it: its facts, its conditions, its heartbeat."""
