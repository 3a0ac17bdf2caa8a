"""The two forms of an Event: core/v1 and events.k8s.io/v1. Pure renaming; nothing is lost either way.

Objects are kept in the core form. Called by `api.conversion` and by printing.
"""

from orchestrator.api.item import Object

_CORE_TO_NEW = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
_NEW_TO_CORE = {new: core for core, new in _CORE_TO_NEW.items()}


def to_core(event: Object) -> Object:
    """An events.k8s.io/v1 Event as core/v1."""
    renamed = {_NEW_TO_CORE.get(name, name): value for name, value in event.items()}
    return {**renamed, "apiVersion": "v1"}


def to_new(event: Object) -> Object:
    """A core/v1 Event as events.k8s.io/v1."""
    renamed = {_CORE_TO_NEW.get(name, name): value for name, value in event.items()}
    return {**renamed, "apiVersion": "events.k8s.io/v1"}
