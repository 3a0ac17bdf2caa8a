"""Validation of a Job's status: it moves forward only, and its parts agree. Pure; called by `jobs`.

A rule looks only at what this write changes, so that a status that became wrong through a change of the spec
does not stop its own repair. Source: batch validation of Kubernetes v1.36.
"""

from collections.abc import Callable

from orchestrator.api import job_indexes
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.api.printing.duration import seconds_of
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.job_policies import invalid
from orchestrator.registry.strategies.workload_rules import non_negatives

_COUNTERS = ("active", "succeeded", "failed", "ready", "terminating")
_TERMINAL = ("Failed", "Complete", "FailureTarget")


class _Change:
    """The status before and after one write, and what of it differs."""

    def __init__(self, new: Object, old: Object) -> None:
        self.spec: Object = new.get("spec") or {}
        self.now: Object = new.get("status") or {}
        self.before: Object = old.get("status") or {}
        self.true = _true_conditions(self.now)
        self.was_true = _true_conditions(self.before)
        self.finished = bool(self.true & {"Complete", "Failed"})
        self.was_finished = bool(self.was_true & {"Complete", "Failed"})
        self.indexed = self.spec.get("completionMode") == "Indexed"

    def changed(self, *names: str) -> bool:
        return any((self.now.get(name) or None) != (self.before.get(name) or None) for name in names)

    def turned(self, *conditions: str) -> bool:
        """Whether one of these conditions became true or ceased to be."""
        return bool((self.true ^ self.was_true) & set(conditions))

    @property
    def finish_changed(self) -> bool:
        return self.finished != self.was_finished


def _true_conditions(status: Object) -> set[str]:
    return {
        condition.get("type", "")
        for condition in status.get("conditions") or ()
        if condition.get("status") == "True"
    }


def validate_job_status(new: Object, old: Object) -> list[Cause]:
    """`new` and `old` are Jobs with the same spec."""
    change = _Change(new, old)
    found = non_negatives(change.now, _COUNTERS, "status")
    for rule in _RULES:
        found += rule(change)
    return found


def _validate_uncounted(change: _Change) -> list[Cause]:
    field, pods = "status.uncountedTerminatedPods", change.now.get("uncountedTerminatedPods") or {}
    found: list[Cause] = []
    seen: set[str] = set()
    for kind in ("succeeded", "failed"):
        for at, uid in enumerate(pods.get(kind) or ()):
            if not uid:
                found.append(causes.invalid_value(f"{field}.{kind}[{at}]", uid, "must not be empty"))
            elif uid in seen:
                found.append(causes.duplicate(f"{field}.{kind}[{at}]", uid))
            seen.add(uid)
    if change.finished and seen and (change.finish_changed or change.changed("uncountedTerminatedPods")):
        text = "uncountedTerminatedPods needs to be empty for finished job"
        found.append(causes.invalid_value(field, pods, text))
    return found


def _validate_conditions(change: _Change) -> list[Cause]:
    """Conditions that exclude each other, or that need another."""
    true, texts = change.true, []
    if {"Complete", "Failed"} <= true and change.turned("Complete", "Failed"):
        texts.append("cannot set Complete=True and Failed=true conditions")
    if {"Complete", "FailureTarget"} <= true and change.turned("Complete", "FailureTarget"):
        texts.append("cannot set Complete=True and FailureTarget=true conditions")
    if "Failed" in true and "FailureTarget" not in true and change.turned("Failed", "FailureTarget"):
        texts.append("cannot set Failed=True condition without the FailureTarget=true condition")
    if "Complete" in true and "SuccessCriteriaMet" not in true:
        if change.turned("Complete", "SuccessCriteriaMet"):
            texts.append("cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
        if change.spec.get("successPolicy") is not None:
            texts.append("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")
    for other in ("Failed", "FailureTarget"):
        if {"SuccessCriteriaMet", other} <= true:
            texts.append(f"cannot set SuccessCriteriaMet=True and {other}=true conditions")
    return [invalid("status.conditions", text) for text in texts]


def _validate_lasting_conditions(change: _Change) -> list[Cause]:
    """What ended stays ended."""
    lost = [name for name in _TERMINAL if name in change.was_true - change.true]
    texts = [f"cannot disable the terminal {name}=True condition" for name in lost]
    if "SuccessCriteriaMet" in change.was_true - change.true:
        texts.append("cannot disable the SuccessCriteriaMet=True condition")
    late = "SuccessCriteriaMet" in change.true - change.was_true
    if late and "Complete" in change.was_true:
        texts.append("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions")
    return [invalid("status.conditions", text) for text in texts]


def _validate_times(change: _Change) -> list[Cause]:
    start, end = change.now.get("startTime"), change.now.get("completionTime")
    complete, found = "Complete" in change.true, []
    field = "status.completionTime"
    if change.turned("Complete") or change.changed("completionTime"):
        if end and not complete:
            text = "cannot set completionTime when there is no Complete=True condition"
            found.append(causes.invalid_value(field, end, text))
        if complete and not end:
            found.append(causes.required(field, "completionTime is required for Complete jobs"))
    reversed_ = bool(start and end) and (seconds_of(end) or 0) < (seconds_of(start) or 0)
    if reversed_ and change.changed("startTime", "completionTime"):
        text = "completionTime cannot be set before startTime"
        found.append(causes.invalid_value(field, end, text))
    before = change.before.get("completionTime")
    if end and before and end != before:
        found.append(causes.invalid_value(field, end, "completionTime cannot be mutated"))
    return found + _validate_start(change, start)


def _validate_start(change: _Change, start: str | None) -> list[Cause]:
    found: list[Cause] = []
    changed = change.changed("startTime")
    if change.finished and not start and (change.finish_changed or changed):
        found.append(causes.required("status.startTime", "startTime is required for finished job"))
    resumed = "Suspended" in change.was_true - change.true
    if changed and change.before.get("startTime") and not change.spec.get("suspend") and not resumed:
        text = "startTime cannot be removed for unsuspended job"
        found.append(causes.required("status.startTime", text))
    return found


def _validate_counters(change: _Change) -> list[Cause]:
    """Pods that ended stay counted, and a finished Job has none that run."""
    now, found = change.now, []
    for name, scalable in (("failed", False), ("succeeded", _is_elastic(change))):
        if not scalable and (now.get(name) or 0) < (change.before.get(name) or 0):
            text = f"cannot decrease the {name} counter"
            found.append(causes.invalid_value(f"status.{name}", now.get(name) or 0, text))
    for name in ("active", "terminating"):
        count = now.get(name) or 0
        if change.finished and count > 0 and (change.finish_changed or change.changed(name)):
            text = f"{name}>0 is invalid for finished job"
            found.append(causes.invalid_value(f"status.{name}", count, text))
    ready = now.get("ready")
    if ready is not None and ready > (now.get("active") or 0) and change.changed("ready", "active"):
        found.append(causes.invalid_value("status.ready", ready, "cannot set more ready pods than active"))
    return found


def _is_elastic(change: _Change) -> bool:
    """An indexed Job that can be scaled down forgets successes."""
    return change.indexed and change.spec.get("completions") == change.spec.get("parallelism")


def _validate_indexes(change: _Change) -> list[Cause]:
    completed, failed = change.now.get("completedIndexes") or "", change.now.get("failedIndexes")
    completions, found = change.spec.get("completions"), []
    limited = change.spec.get("backoffLimitPerIndex") is not None
    if change.changed("completedIndexes"):
        if completions is not None:
            found += _validate_list("completedIndexes", completed, completions)
        if completed and not change.indexed:
            text = "cannot set non-empty completedIndexes when non-indexed completion mode"
            found.append(causes.invalid_value("status.completedIndexes", completed, text))
    if change.changed("failedIndexes") and failed is not None:
        if completions is not None and limited:
            found += _validate_list("failedIndexes", failed, completions)
        if not limited:
            text = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
            found.append(causes.invalid_value("status.failedIndexes", failed, text))
    if change.changed("completedIndexes", "failedIndexes") and completions is not None and failed:
        found += _validate_overlap(completed, failed, completions)
    return found


def _validate_list(name: str, text: str, completions: int) -> list[Cause]:
    try:
        job_indexes.parse(text, completions)
    except job_indexes.IndexesError as error:
        return [causes.invalid_value(f"status.{name}", text, f"error parsing {name}: {error}")]
    return []


def _validate_overlap(completed: str, failed: str, completions: int) -> list[Cause]:
    ours, theirs = (job_indexes.readable(text, completions) for text in (completed, failed))
    index = job_indexes.overlap(ours, theirs)
    if index is None:
        return []
    text = f"failedIndexes and completedIndexes overlap at index: {index}"
    return [causes.invalid_value("status.failedIndexes", failed, text)]


_RULES: tuple[Callable[[_Change], list[Cause]], ...] = (
    _validate_uncounted,
    _validate_conditions,
    _validate_times,
    _validate_counters,
    _validate_indexes,
    _validate_lasting_conditions,
)
