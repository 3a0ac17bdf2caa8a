"""Events, asked in either version: core/v1 is lenient for the sake of old clients, events.k8s.io/v1 is strict.

Both work on the core form. An event with an `eventTime` is one of the new kind and has more rules in either.
"""

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy

_MISMATCH = "does not match event.namespace"
_SYSTEM = ("default", "kube-system")
_TEXT_LENGTH_MAX = 128
_NOTE_LENGTH_MAX = 1024
_FIXED = (
    "involvedObject", "reason", "message", "source", "firstTimestamp", "lastTimestamp", "count", "type", "eventTime",
    "action", "related", "reportingInstance",
)  # fmt: skip


class EventStrategy(BaseStrategy):
    """An event lives in the namespace of the object it is about; cluster-wide ones in `default`."""

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        namespace = new["metadata"].get("namespace", "")
        about: str = (new.get("involvedObject") or {}).get("namespace") or ""
        field = "involvedObject.namespace"
        if new.get("eventTime"):
            lost = not about and namespace not in _SYSTEM
            found = [causes.invalid_value(field, about, _MISMATCH)] if lost else []
            return found + _validate_reporting(new)
        if (about and about != namespace) or (not about and namespace not in ("", "default")):
            return [causes.invalid_value(field, about, _MISMATCH)]
        return []


class NewEventStrategy(EventStrategy):
    """The strict rules: what is deprecated stays unset, and only the series grows."""

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        found = super().validate_object(new, old)
        if old is None:
            return found + _validate_series(new) + _validate_new(new)
        if new.get("series") != old.get("series"):
            found += _validate_series(new)
        for name in _FIXED:
            found += causes.immutable(name, new.get(name) or None, old.get(name) or None)
        reporter = "reportingComponent"
        return found + causes.immutable(
            "reportingController", new.get(reporter) or "", old.get(reporter) or ""
        )


def _validate_reporting(event: Object) -> list[Cause]:
    """Events with a time of their own name who reports and what was done."""
    found: list[Cause] = []
    controller = event.get("reportingComponent")
    if not controller:
        found.append(causes.required("reportingController"))
    else:
        found += causes.problems("reportingController", controller, names.is_qualified_name(controller))
    for name in ("reportingInstance", "action", "reason"):
        text = event.get(name) or ""
        if not text:
            found.append(causes.required(name))
        if len(text) > _TEXT_LENGTH_MAX:
            found.append(_too_long(name, _TEXT_LENGTH_MAX))
    if len(event.get("message") or "") > _NOTE_LENGTH_MAX:
        found.append(_too_long("message", _NOTE_LENGTH_MAX))
    return found


def _too_long(name: str, limit: int) -> Cause:
    return causes.invalid_value(name, "", f"can have at most {limit} characters")


def _validate_series(event: Object) -> list[Cause]:
    series = event.get("series")
    if series is None:
        return []
    found: list[Cause] = []
    if (series.get("count") or 0) < 2:
        found.append(causes.invalid_value("series.count", "", "should be at least 2"))
    if not series.get("lastObservedTime"):
        found.append(causes.required("series.lastObservedTime"))
    return found


def _validate_new(event: Object) -> list[Cause]:
    found = [] if event.get("eventTime") else [causes.required("eventTime")]
    kind = event.get("type") or ""
    if kind not in ("Normal", "Warning"):
        found.append(causes.invalid_value("type", "", f"has invalid value: {kind}"))
    source = event.get("source") or {}
    given = {
        **{name: event.get(name) for name in ("firstTimestamp", "lastTimestamp", "count")},
        "source": source.get("component") or source.get("host"),
    }
    return found + [
        causes.invalid_value(name, "", "needs to be unset") for name, value in given.items() if value
    ]
