"""Cluster DNS in-process: `wire` encodes and decodes, `zone` holds the names, `forward` asks others, `server` answers."""
