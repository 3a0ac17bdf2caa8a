"""Cluster DNS in-process: `wire` encodes and decodes, `zone` holds names, `forward` asks others, `server` answers."""
