"""Routes, handlers, watch streams, discovery, OpenAPI, tables, and the relay of upgrades to agents."""
