"""TLS listener, limits, connection upgrades and stream protocols (WebSocket channels, SPDY/3.1).

Open to the API server and the agent's API. The only place that imports aiohttp's server.
"""
