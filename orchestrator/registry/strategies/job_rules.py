"""Validation of a Job's spec, by itself and against the one before. Pure; called by Jobs and CronJobs.

Source: batch validation of Kubernetes v1.36.
"""

import re
from typing import Any

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import with_field
from orchestrator.registry.strategies.job_policies import validate_failure_policy, validate_success_policy
from orchestrator.registry.strategies.pod_spec import validate_template
from orchestrator.registry.strategies.workload_rules import non_negatives

_INDEXED_MAX = 100_000
"""Parallelism and failed indexes of an indexed Job."""
_MANY = 100_000
"""From here on completions with a limit per index need narrower bounds."""
_INDEXED_MAX_OF_MANY = 10_000
_MANAGER_BYTES_MAX = 63
_COUNTS = (
    "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",
    "backoffLimitPerIndex", "maxFailedIndexes",
)  # fmt: skip
_MODES = ("NonIndexed", "Indexed")
_REPLACEMENTS = ("Failed", "TerminatingOrFailed")
_FIXED = ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
_SCHEDULING = ("nodeSelector", "tolerations", "schedulingGates")
_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_match_path = re.compile(_PATH).fullmatch


def validate_job_spec(spec: Object, field: str) -> list[Cause]:
    """What Jobs and the templates of CronJobs have in common: all but the selector."""
    found = non_negatives(spec, _COUNTS, field)
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        text = "when maxFailedIndexes is specified"
        found.append(causes.required(f"{field}.backoffLimitPerIndex", text))
    if spec.get("managedBy") is not None:
        found += _validate_manager(spec["managedBy"], f"{field}.managedBy")
    found += _validate_mode(spec, field)
    found += _validate_policies(spec, field)
    template = spec.get("template") or {}
    found += validate_template(template, f"{field}.template")
    policy = (template.get("spec") or {}).get("restartPolicy") or ""
    return found + _validate_restarts(policy, spec, f"{field}.template.spec.restartPolicy")


def _validate_manager(name: str, field: str) -> list[Cause]:
    """A domain and a path below it, such as `example.com/queue`."""
    found: list[Cause] = []
    domain, slash, path = name.partition("/")
    if not name:
        found.append(causes.required(field))
    elif not slash or not domain or not path:
        text = 'must be a domain-prefixed path (such as "acme.io/foo")'
        found.append(causes.invalid_value(field, name, text))
    else:
        found += causes.problems(field, domain, names.is_dns1123_subdomain(domain))
        if not _match_path(path):
            text = f"Invalid path (regex used for validation is '{_PATH}')"
            found.append(causes.invalid_value(field, path, text))
    if len(name) > _MANAGER_BYTES_MAX:
        found.append(causes.too_long(field, _MANAGER_BYTES_MAX))
    return found


def _validate_mode(spec: Object, field: str) -> list[Cause]:
    mode = spec.get("completionMode")
    found = causes.one_of(f"{field}.completionMode", mode, _MODES)
    if mode == "Indexed":
        return found + _validate_indexed(spec, field)
    if mode in (None, "NonIndexed"):
        for name in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(name) is not None:
                text = "requires indexed completion mode"
                found.append(causes.invalid_value(f"{field}.{name}", spec[name], text))
    return found


def _validate_indexed(spec: Object, field: str) -> list[Cause]:
    completions, failures = spec.get("completions"), spec.get("maxFailedIndexes")
    found: list[Cause] = []
    if completions is None:
        found.append(causes.required(f"{field}.completions", "when completion mode is Indexed"))
    found += _at_most(
        spec, "parallelism", _INDEXED_MAX, field,
        f"must be less than or equal to {_INDEXED_MAX} when completion mode is Indexed",
    )  # fmt: skip
    if completions is not None and failures is not None and failures > completions:
        text = "must be less than or equal to completions"
        found.append(causes.invalid_value(f"{field}.maxFailedIndexes", failures, text))
    text = f"must be less than or equal to {_INDEXED_MAX}"
    found += _at_most(spec, "maxFailedIndexes", _INDEXED_MAX, field, text)
    if completions is not None and completions > _MANY and spec.get("backoffLimitPerIndex") is not None:
        found += _validate_many(spec, field)
    return found


def _validate_many(spec: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    if spec.get("maxFailedIndexes") is None:
        text = f"must be specified when completions is above {_MANY}"
        found.append(causes.required(f"{field}.maxFailedIndexes", text))
    text = (
        f"must be less than or equal to {_INDEXED_MAX_OF_MANY} when completions are above {_MANY} and used"
        " with backoff limit per index"
    )
    for name in ("parallelism", "maxFailedIndexes"):
        found += _at_most(spec, name, _INDEXED_MAX_OF_MANY, field, text)
    return found


def _at_most(spec: Object, name: str, limit: int, field: str, text: str) -> list[Cause]:
    value = spec.get(name)
    if value is None or value <= limit:
        return []
    return [causes.invalid_value(f"{field}.{name}", value, text)]


def _validate_policies(spec: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    if spec.get("podFailurePolicy") is not None:
        found += validate_failure_policy(spec, f"{field}.podFailurePolicy")
    if spec.get("successPolicy") is not None:
        if spec.get("completionMode") == "Indexed":
            found += validate_success_policy(spec, f"{field}.successPolicy")
        else:
            text = "requires indexed completion mode"
            found.append(causes.invalid_value(f"{field}.successPolicy", spec["successPolicy"], text))
    allowed = _REPLACEMENTS if spec.get("podFailurePolicy") is None else ("Failed",)
    replacement = spec.get("podReplacementPolicy")
    return found + causes.one_of(f"{field}.podReplacementPolicy", replacement, allowed)


def _validate_restarts(policy: str, spec: Object, field: str) -> list[Cause]:
    if policy in ("", "Always"):
        return [causes.required(field, 'valid values: "OnFailure", "Never"')]
    if policy not in ("OnFailure", "Never"):
        return [causes.not_supported(field, policy, ("OnFailure", "Never"))]
    if spec.get("podFailurePolicy") is not None and policy != "Never":
        text = 'only "Never" is supported when podFailurePolicy is specified'
        return [causes.invalid_value(field, policy, text)]
    return []


# ── Updates ──────────────────────────────────────────────────────────────────────────────────────────────


def validate_job_update(spec: Object, old: Object, *, at_rest: bool) -> list[Cause]:
    """What may not change. While the Job is suspended and has no pod (`at_rest`), where its pods may run and
    what they ask for may."""
    found = _validate_completions(spec, old)
    found += causes.immutable("spec.selector", spec.get("selector"), old.get("selector"))
    template, before = spec.get("template") or {}, old.get("template") or {}
    if at_rest:
        before = _with_resources(_with_scheduling(before, template), template)
    found += causes.immutable("spec.template", template, before)
    for name in _FIXED:
        found += causes.immutable(f"spec.{name}", spec.get(name), old.get(name))
    return found


def _validate_completions(spec: Object, old: Object) -> list[Cause]:
    """Indexed Jobs can be stretched and shrunk, together with their parallelism."""
    now = spec.get("completions")
    if spec.get("completionMode") != "Indexed":
        return causes.immutable("spec.completions", now, old.get("completions"))
    if now is None or now in (old.get("completions"), spec.get("parallelism")):
        return []
    text = "can only be modified in tandem with spec.parallelism"
    return [causes.invalid_value("spec.completions", now, text)]


def _with_scheduling(before: Object, template: Object) -> Object:
    """The old template with the new one's labels, annotations and directives of where pods may run."""
    metadata, wanted = before.get("metadata") or {}, template.get("metadata") or {}
    for name in ("labels", "annotations"):
        metadata = with_field(metadata, name, wanted.get(name))
    pod, new = before.get("spec") or {}, template.get("spec") or {}
    for name in _SCHEDULING:
        pod = with_field(pod, name, new.get(name))
    pod = with_field(pod, "affinity", _with_node_affinity(pod.get("affinity"), new.get("affinity")))
    return {**before, "metadata": metadata, "spec": pod}


def _with_node_affinity(before: Object | None, wanted: Object | None) -> Object | None:
    """The old affinity with the new one's node affinity."""
    result = with_field(before or {}, "nodeAffinity", (wanted or {}).get("nodeAffinity"))
    return None if wanted is None and not result else result


def _with_resources(before: Object, template: Object) -> Object:
    """The old template with what the new one's containers of the same names ask for."""
    pod, new = before.get("spec") or {}, template.get("spec") or {}
    for kind in ("containers", "initContainers"):
        if pod.get(kind) and new.get(kind):
            pod = {**pod, kind: _with_amounts(pod[kind], new[kind])}
    return {**before, "spec": pod}


def _with_amounts(before: list[Object], wanted: list[Object]) -> list[Object]:
    amounts: dict[str, Any] = {container.get("name", ""): container.get("resources") for container in wanted}
    return [
        with_field(container, "resources", amounts[container["name"]])
        if container.get("name") in amounts
        else container
        for container in before
    ]
