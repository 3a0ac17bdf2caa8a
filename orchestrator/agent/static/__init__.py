"""Pods that the node's own files say, with or without an API: read, run like all others, and mirrored into the API."""
