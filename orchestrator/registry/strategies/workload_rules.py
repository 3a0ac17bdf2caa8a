"""Rules that the kinds which keep pods share: selector, template, counters of the status, counts or percentages.

Pure. Called by the strategies of workloads. Source: apps and core validation of Kubernetes v1.36.
"""

from typing import Any

from orchestrator.api import names
from orchestrator.api.errors import BadRequest, Cause
from orchestrator.api.item import Object
from orchestrator.api.selectors import Selector, from_label_selector
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy
from orchestrator.registry.strategies.label_selectors import validate_label_selector
from orchestrator.registry.strategies.pod_defaults import default_template
from orchestrator.registry.strategies.pod_spec import validate_template
from orchestrator.registry.strategies.pod_warnings import template_warnings

_NAME_WARNING = (
    "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior;"
    " a DNS label is recommended: "
)


class WorkloadStrategy(BaseStrategy):
    """A kind with `spec.template` and a status of counters."""

    counts_generation = True
    zeros: tuple[str, ...] = ()
    """Counters that a new object's status shows as 0."""
    counters: tuple[str, ...] = ()
    """Counters of the status, none of which may be negative."""
    bounds: tuple[tuple[str, str, str], ...] = ()
    """Counter, the one it may not exceed, and how the message names that one."""
    needs_template = True
    """Whether a template that is left out is an empty one."""
    names_pods = False
    """Whether the object's name becomes part of host names, so that other than DNS labels deserve a warning."""

    def initial_status(self, obj: Object) -> Object:
        return dict.fromkeys(self.zeros, 0)

    def default(self, obj: Object) -> Object:
        spec = self.default_spec(obj.get("spec") or {})
        if self.needs_template or spec.get("template") is not None:
            spec["template"] = default_template({"spec": {}, **(spec.get("template") or {})})
        return {**obj, "spec": spec}

    def default_spec(self, spec: Object) -> Object:
        """A new spec with the kind's defaults, the template left as it is."""
        return {"replicas": 1, **spec}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        if old is not None and new["spec"] == old["spec"]:
            return []
        return self.validate_spec(new["spec"], None if old is None else old["spec"])

    def validate_spec(self, spec: Object, old: Object | None) -> list[Cause]:
        """A spec that is new, or differs from `old`."""
        raise NotImplementedError

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        status, before = new.get("status") or {}, old.get("status") or {}
        found: list[Cause] = []
        for name in self.counters:
            found += causes.non_negative(f"status.{name}", status.get(name))
        for name, bound, label in self.bounds:
            count = status.get(name) or 0
            if count > (status.get(bound) or 0):
                found.append(causes.invalid_value(f"status.{name}", count, f"cannot be greater than {label}"))
        if "collisionCount" in self.counters:
            found += _validate_collisions(status.get("collisionCount"), before.get("collisionCount"))
        return found

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        if old is not None:
            return [] if new["spec"] == old["spec"] else self.spec_warnings(new["spec"])
        found = name_warnings(new) if self.names_pods else []
        return found + self.spec_warnings(new["spec"])

    def spec_warnings(self, spec: Object) -> list[str]:
        return template_warnings(spec.get("template"), "spec.template")


def _validate_collisions(count: int | None, before: int | None) -> list[Cause]:
    if before is None or (count is not None and count >= before):
        return []
    return [causes.invalid_value("status.collisionCount", count or 0, "cannot be decremented")]


# ── Selector and template ────────────────────────────────────────────────────────────────────────────────


def validate_selector(selector: Object | None, field: str, kind: str) -> list[Cause]:
    """A selector that is required and selects something; `kind` as the message names it."""
    if selector is None:
        return [causes.required(field)]
    found = validate_label_selector(selector, field)
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        found.append(causes.invalid_value(field, selector, f"empty selector is invalid for {kind}"))
    return found


def validate_match(selector: Object | None, template: Object, field: str) -> list[Cause]:
    """The template at `field` carries labels that the selector selects; a broken selector has causes of its
    own."""
    try:
        chosen = from_label_selector(selector)
    except BadRequest:
        return []
    return validate_labels_match(chosen, template, field)


def validate_labels_match(selector: Selector, template: Object, field: str) -> list[Cause]:
    labels = template_labels(template)
    if selector.matches(labels):
        return []
    text = "`selector` does not match template `labels`"
    return [causes.invalid_value(f"{field}.metadata.labels", labels, text)]


def template_labels(template: Object | None) -> dict[str, str]:
    labels: dict[str, str] = ((template or {}).get("metadata") or {}).get("labels") or {}
    return labels


def validate_lasting(template: Object, field: str, kind: str) -> list[Cause]:
    """The pods of a workload that keeps running are always restarted and have no deadline."""
    spec = template.get("spec") or {}
    found: list[Cause] = []
    policy = spec.get("restartPolicy") or ""
    if policy != "Always":
        found.append(causes.not_supported(f"{field}.spec.restartPolicy", policy, ("Always",)))
    if spec.get("activeDeadlineSeconds") is not None:
        text = f"activeDeadlineSeconds in {kind} is not Supported"
        found.append(causes.forbidden(f"{field}.spec.activeDeadlineSeconds", text))
    return found


def validate_pods(spec: Object, old: Object | None, kind: str, selector_kind: str) -> list[Cause]:
    """Selector and template of a spec; the selector never changes. `kind` and `selector_kind` are how
    messages name the workload."""
    selector, template = spec.get("selector"), spec.get("template") or {}
    found = validate_selector(selector, "spec.selector", selector_kind)
    if selector is not None:
        if not found:
            found += validate_match(selector, template, "spec.template")
        found += validate_template(template, "spec.template")
        found += validate_lasting(template, "spec.template", kind)
    if old is not None:
        found += causes.immutable("spec.selector", selector, old.get("selector"))
    return found


# ── Warnings ─────────────────────────────────────────────────────────────────────────────────────────────


def name_warnings(obj: Object) -> list[str]:
    """A name that is no DNS label is cut or refused where pods take it as their host name."""
    problems = names.is_dns1123_label(obj["metadata"].get("name") or "")
    return [f"{_NAME_WARNING}[{' '.join(problems)}]"] if problems else []


# ── Counts or percentages ────────────────────────────────────────────────────────────────────────────────


def validate_share(value: Any, field: str) -> list[Cause]:
    """A count of at least 0, or a percentage."""
    if isinstance(value, str):
        return causes.problems(field, value, names.is_percent(value))
    return causes.non_negative(field, value)


def validate_at_most_all(value: Any, field: str) -> list[Cause]:
    """A percentage of at most 100; what is none is the business of `validate_share`."""
    if isinstance(value, str) and not names.is_percent(value) and int(value[:-1]) > 100:
        return [causes.invalid_value(field, value, "must not be greater than 100%")]
    return []


def share_amount(value: Any) -> int:
    """The number in a count or percentage; 0 for none and for what is neither."""
    if isinstance(value, str):
        return 0 if names.is_percent(value) else int(value[:-1])
    return value or 0


def non_negatives(spec: Object, fields: tuple[str, ...], prefix: str = "spec") -> list[Cause]:
    """Each of these fields that is there is at least 0."""
    return [cause for name in fields for cause in causes.non_negative(f"{prefix}.{name}", spec.get(name))]
