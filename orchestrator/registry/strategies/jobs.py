"""Jobs.

Rules:
1. Unless it asks for a selector of its own, a Job selects its pods by its uid; the labels for that are put on
   its template, and on itself when it has none.
2. Without completions and parallelism it runs one pod once.
3. Its selector, template, completion mode and policies never change; of a suspended Job with no pods where its
   pods may run and what they ask for may.
4. Its status only moves forward (`job_status`).
5. `metadata.generation` grows with the spec.
"""

from orchestrator.api import names
from orchestrator.api.errors import BadRequest, Cause
from orchestrator.api.item import Object
from orchestrator.api.selectors import from_label_selector
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import with_field
from orchestrator.registry.strategies.job_rules import validate_job_spec, validate_job_update
from orchestrator.registry.strategies.job_status import validate_job_status
from orchestrator.registry.strategies.label_selectors import validate_label_selector
from orchestrator.registry.strategies.workload_rules import (
    WorkloadStrategy,
    template_labels,
    validate_match,
)

UID_LABEL = "batch.kubernetes.io/controller-uid"
NAME_LABEL = "batch.kubernetes.io/job-name"
_OLD_UID_LABEL, _OLD_NAME_LABEL = "controller-uid", "job-name"
_NO_LIMIT = 2**31 - 1
_TOO_MANY = 100_000
_TOO_PARALLEL = 10_000


class JobStrategy(WorkloadStrategy):
    names_pods = True

    def default(self, obj: Object) -> Object:
        obj = super().default(obj)
        labels = template_labels(obj["spec"].get("template"))
        if labels and not obj["metadata"].get("labels"):
            obj = {**obj, "metadata": with_field(obj["metadata"], "labels", labels)}
        return obj

    def default_spec(self, spec: Object) -> Object:
        alone = spec.get("completions") is None and spec.get("parallelism") is None
        failure_policy = spec.get("podFailurePolicy")
        result = {
            **({"completions": 1} if alone else {}),
            "parallelism": 1,
            "backoffLimit": 6 if spec.get("backoffLimitPerIndex") is None else _NO_LIMIT,
            "completionMode": "NonIndexed",
            "suspend": False,
            "manualSelector": False,
            "podReplacementPolicy": "TerminatingOrFailed" if failure_policy is None else "Failed",
            **spec,
        }
        return default_failure_policy(result)

    def prepare_create(self, obj: Object) -> Object:
        created = super().prepare_create(obj)
        if created["spec"]["manualSelector"]:
            return created
        return _with_selector(created)

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new["spec"]
        if old is not None and spec == old["spec"]:
            return []
        found = _validate_generated(new, old)
        found += validate_job_spec(spec, "spec")
        found += _validate_selector(spec)
        found += _validate_host_names(new)
        if old is not None:
            found += validate_job_update(spec, old["spec"], at_rest=_is_at_rest(old))
        return found

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        return validate_job_status(new, old)

    def spec_warnings(self, spec: Object) -> list[str]:
        return job_warnings(spec, "spec") + super().spec_warnings(spec)


def default_failure_policy(spec: Object) -> Object:
    """A pattern of a pod's condition without a status means that it is true."""
    rules = (spec.get("podFailurePolicy") or {}).get("rules")
    if not rules:
        return spec
    defaulted = [
        {**rule, "onPodConditions": [{"status": "True", **pattern} for pattern in rule["onPodConditions"]]}
        if rule.get("onPodConditions")
        else rule
        for rule in rules
    ]
    return {**spec, "podFailurePolicy": {**spec["podFailurePolicy"], "rules": defaulted}}


def job_warnings(spec: Object, field: str) -> list[str]:
    """Numbers with which a Job's status can become too large to keep."""
    completions, parallelism = spec.get("completions") or 0, spec.get("parallelism") or 0
    if spec.get("completionMode") != "Indexed" or completions <= _TOO_MANY or parallelism <= _TOO_PARALLEL:
        return []
    return [
        f"{field}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than"
        " 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
    ]


# ── Selector ─────────────────────────────────────────────────────────────────────────────────────────────


def _generated_labels(job: Object) -> dict[str, str]:
    metadata = job["metadata"]
    name, uid = metadata.get("name") or "", metadata.get("uid") or ""
    return {_OLD_UID_LABEL: uid, _OLD_NAME_LABEL: name, UID_LABEL: uid, NAME_LABEL: name}


def _with_selector(job: Object) -> Object:
    """The Job with labels on its template that only its pods have, and a selector for them."""
    spec, generated = job["spec"], _generated_labels(job)
    template = spec.get("template") or {}
    labels = {**generated, **template_labels(template)}
    template = {**template, "metadata": {**(template.get("metadata") or {}), "labels": labels}}
    selector = spec.get("selector") or {}
    chosen = {UID_LABEL: generated[UID_LABEL], **(selector.get("matchLabels") or {})}
    spec = {**spec, "template": template, "selector": {**selector, "matchLabels": chosen}}
    metadata = job["metadata"]
    if not metadata.get("labels"):
        metadata = {**metadata, "labels": labels}
    return {**job, "metadata": metadata, "spec": spec}


def _validate_generated(job: Object, old: Object | None) -> list[Cause]:
    """A selector that was generated still is; old Jobs may lack the newer labels."""
    spec = job["spec"]
    if spec.get("manualSelector") or spec.get("selector") is None:
        return []
    expected = _generated_labels(job)
    known = template_labels(None if old is None else old["spec"].get("template"))
    if old is not None and not {UID_LABEL, NAME_LABEL} <= known.keys():
        expected = {name: expected[name] for name in (_OLD_UID_LABEL, _OLD_NAME_LABEL)}
    labels = template_labels(spec.get("template"))
    found: list[Cause] = []
    for name, value in expected.items():
        found += _validate_label(labels, name, value)
    try:
        if not from_label_selector(spec["selector"]).matches(expected):
            text = "`selector` not auto-generated"
            found.append(causes.invalid_value("spec.selector", spec["selector"], text))
    except BadRequest:
        pass  # `_validate_selector` names what is broken.
    return found


def _validate_label(labels: dict[str, str], name: str, value: str) -> list[Cause]:
    field = "spec.template.metadata.labels"
    text = f"must be '{value}'"
    found = [] if name in labels else [causes.required(f"{field}[{name}]", text)]
    if labels.get(name, "") != value:
        found.append(causes.invalid_value(f"{field}[{name}]", labels, text))
    return found


def _validate_selector(spec: Object) -> list[Cause]:
    selector = spec.get("selector")
    found = [causes.required("spec.selector")] if selector is None else []
    found += validate_label_selector(selector, "spec.selector")
    return found + validate_match(selector, spec.get("template") or {}, "spec.template")


def _validate_host_names(job: Object) -> list[Cause]:
    """The pods of an indexed Job have host names of the Job's name and their index."""
    name, spec = job["metadata"].get("name") or "", job["spec"]
    completions = spec.get("completions") or 0
    if spec.get("completionMode") != "Indexed" or completions <= 0:
        return []
    longest = f"{name}-{completions - 1}"
    if not names.is_dns1123_label(longest):
        return []
    text = f"will not able to create pod with invalid DNS label: {longest}"
    return [causes.invalid_value("metadata.name", name, text)]


# ── Suspension ───────────────────────────────────────────────────────────────────────────────────────────


def _is_at_rest(job: Object) -> bool:
    """Suspended without a pod: it never started, or says that it is suspended and counts none."""
    if not job["spec"].get("suspend"):
        return False
    status = job.get("status") or {}
    suspended = any(
        condition.get("type") == "Suspended" and condition.get("status") == "True"
        for condition in status.get("conditions") or ()
    )
    return not status.get("startTime") or (suspended and not status.get("active"))
