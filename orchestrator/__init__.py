"""Kubernetes in one asyncio process: API, log store, scheduler, controllers and node agent."""

__version__ = "0.1.0"

KUBERNETES_VERSION = "v1.36.0"
"""The API version that `/version` and every node advertise."""
