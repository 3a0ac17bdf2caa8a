"""Roles and bindings of `rbac.authorization.k8s.io`. A binding's roleRef never changes."""

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy
from orchestrator.registry.strategies.label_selectors import validate_label_selector

GROUP = "rbac.authorization.k8s.io"


class RoleStrategy(BaseStrategy):
    """Roles and ClusterRoles; only the latter know non-resource URLs and aggregation."""

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        found: list[Cause] = []
        for at, rule in enumerate(new.get("rules") or ()):
            found += _validate_rule(rule, f"rules[{at}]", namespaced=self.resource.namespaced)
        aggregation = new.get("aggregationRule")
        if aggregation is not None:
            field = "aggregationRule.clusterRoleSelectors"
            selectors = aggregation.get("clusterRoleSelectors")
            if not selectors:
                found.append(
                    causes.required(
                        field, "at least one clusterRoleSelector required if aggregationRule is non-nil"
                    )
                )
            for at, selector in enumerate(selectors or ()):
                found += validate_label_selector(selector, f"{field}[{at}]")
        return found


class BindingStrategy(BaseStrategy):
    """RoleBindings and ClusterRoleBindings."""

    def default(self, obj: Object) -> Object:
        result = dict(obj)
        role = obj.get("roleRef") or {}
        if not role.get("apiGroup"):
            result["roleRef"] = {**role, "apiGroup": GROUP}
        if obj.get("subjects"):
            result["subjects"] = [_default_subject(subject) for subject in obj["subjects"]]
        return result

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        role = new["roleRef"]
        kinds = ("Role", "ClusterRole") if self.resource.namespaced else ("ClusterRole",)
        found = causes.one_of("roleRef.apiGroup", role.get("apiGroup"), (GROUP,))
        found += causes.one_of("roleRef.kind", role.get("kind", ""), kinds)
        name = role.get("name")
        if not name:
            found.append(causes.required("roleRef.name"))
        else:
            found += causes.problems("roleRef.name", name, names.is_path_segment(name))
        for at, subject in enumerate(new.get("subjects") or ()):
            found += self._validate_subject(subject, f"subjects[{at}]")
        if old is not None and old.get("roleRef") != role:
            found.append(causes.invalid_value("roleRef", role, "cannot change roleRef"))
        return found

    def _validate_subject(self, subject: Object, field: str) -> list[Cause]:
        name, kind, group = (subject.get(part) or "" for part in ("name", "kind", "apiGroup"))
        found = [] if name else [causes.required(f"{field}.name")]
        if kind == "ServiceAccount":
            if name:
                found += causes.problems(f"{field}.name", name, names.is_dns1123_subdomain(name))
            found += causes.one_of(f"{field}.apiGroup", group, ("",))
            if not self.resource.namespaced and not subject.get("namespace"):
                found.append(causes.required(f"{field}.namespace"))
        elif kind in ("User", "Group"):
            if not name:
                text = f"{kind.lower()} name cannot be empty"
                found.append(causes.invalid_value(f"{field}.name", name, text))
            found += causes.one_of(f"{field}.apiGroup", group, (GROUP,))
        else:
            found.append(causes.not_supported(f"{field}.kind", kind, ("Group", "ServiceAccount", "User")))
        return found


def _default_subject(subject: Object) -> Object:
    if subject.get("apiGroup") or subject.get("kind") not in ("User", "Group"):
        return subject
    return {**subject, "apiGroup": GROUP}


def _validate_rule(rule: Object, field: str, *, namespaced: bool) -> list[Cause]:
    found: list[Cause] = []
    if not rule.get("verbs"):
        found.append(causes.required(f"{field}.verbs", "verbs must contain at least one value"))
    urls = rule.get("nonResourceURLs")
    if urls:
        if namespaced:
            found.append(
                causes.invalid_value(
                    f"{field}.nonResourceURLs", urls, "namespaced rules cannot apply to non-resource URLs"
                )
            )
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            found.append(
                causes.invalid_value(
                    f"{field}.nonResourceURLs",
                    urls,
                    "rules cannot apply to both regular resources and non-resource URLs",
                )
            )
        return found
    if not rule.get("apiGroups"):
        found.append(
            causes.required(f"{field}.apiGroups", "resource rules must supply at least one api group")
        )
    if not rule.get("resources"):
        found.append(
            causes.required(f"{field}.resources", "resource rules must supply at least one resource")
        )
    return found
