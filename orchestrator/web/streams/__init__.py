"""Server ends of the stream protocols that kubectl speaks: exec, attach and port-forward, over SPDY/3.1 and
WebSocket. Called by the agent's API; knows no runtime: processes are what `channels.Process` describes.
"""
