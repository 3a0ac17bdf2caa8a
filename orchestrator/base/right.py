"""The right to write, asked again at the last moment: whoever had it when a request was authorized may have been
frozen since, while somebody else took over.

Set by `client.leader` in the context of the request, so that it reaches the engine through every layer between;
asked by the engine that several servers share just before a transaction is sent, each time that it is sent. A store
with one server has nobody to hand the right to, and does not ask.
"""

from collections.abc import Callable
from contextvars import ContextVar

Right = Callable[[], str]
"""Why there is no right any more; empty while there is."""

right_to_write: ContextVar[Right | None] = ContextVar("right_to_write", default=None)
