"""Webhook configurations: which requests are sent where. CEL of match conditions is compiled by admission.

`validate_client_config`, `validate_match` and their like are shared with admission policies and conversions.
"""

from typing import ClassVar
from urllib.parse import urlsplit

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, filled
from orchestrator.registry.strategies.label_selectors import validate_label_selector

REVIEW_VERSIONS = ("v1", "v1beta1")
FAILURE_POLICIES = ("Fail", "Ignore")
MATCH_POLICIES = ("Equivalent", "Exact")
REINVOCATION_POLICIES = ("IfNeeded", "Never")
CONDITIONS_MAX = 64
_NO_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_ALL_SIDE_EFFECTS = ("None", "NoneOnDryRun", "Some", "Unknown")
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")
_FORM = "; desired format: https://host[/path]"
_DEFAULTS: Object = {
    "failurePolicy": "Fail", "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
    "timeoutSeconds": 10,
}  # fmt: skip


class WebhookStrategy(BaseStrategy):
    """ValidatingWebhookConfigurations; `MutatingWebhookStrategy` adds one field."""

    counts_generation = True
    defaults: ClassVar[Object] = _DEFAULTS

    def default(self, obj: Object) -> Object:
        hooks = obj.get("webhooks")
        return {**obj, "webhooks": [self._default_hook(hook) for hook in hooks]} if hooks else obj

    def _default_hook(self, hook: Object) -> Object:
        result = filled(hook, self.defaults)
        result["rules"] = default_rules(hook.get("rules"))
        if not result["rules"]:
            del result["rules"]
        if result.get("clientConfig"):
            result["clientConfig"] = default_client_config(result["clientConfig"])
        return result

    def desired_changed(self, new: Object, old: Object) -> bool:
        return bool(new.get("webhooks") != old.get("webhooks"))

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        hooks: list[Object] = new.get("webhooks") or []
        before: list[Object] = (old or {}).get("webhooks") or []
        lenient = any(hook.get("sideEffects") not in _NO_SIDE_EFFECTS for hook in before)
        effects = _ALL_SIDE_EFFECTS if lenient else _NO_SIDE_EFFECTS
        found: list[Cause] = []
        seen: set[str] = set()
        for at, hook in enumerate(hooks):
            path, name = f"webhooks[{at}]", hook.get("name") or ""
            found += self._validate_hook(hook, path, effects)
            found += _validate_review_versions(
                hook.get("admissionReviewVersions") or [], f"{path}.admissionReviewVersions"
            )
            if name in seen:
                found.append(causes.duplicate(f"{path}.name", name))
            seen.add(name)
        return found

    def _validate_hook(self, hook: Object, field: str, effects: tuple[str, ...]) -> list[Cause]:
        name = hook.get("name") or ""
        found = _validate_name(name, f"{field}.name")
        for at, rule in enumerate(hook.get("rules") or ()):
            found += validate_rule(rule, f"{field}.rules[{at}]")
        found += causes.one_of(f"{field}.failurePolicy", hook.get("failurePolicy"), FAILURE_POLICIES)
        found += causes.one_of(f"{field}.matchPolicy", hook.get("matchPolicy"), MATCH_POLICIES)
        side_effects = hook.get("sideEffects")
        if side_effects is None:
            found.append(causes.required(f"{field}.sideEffects", f"must specify one of {', '.join(effects)}"))
        found += causes.one_of(f"{field}.sideEffects", side_effects, effects)
        timeout_s = hook.get("timeoutSeconds")
        if timeout_s is not None and not 1 <= timeout_s <= 30:
            text = "the timeout value must be between 1 and 30 seconds"
            found.append(causes.invalid_value(f"{field}.timeoutSeconds", timeout_s, text))
        for selector in ("namespaceSelector", "objectSelector"):
            found += validate_label_selector(hook.get(selector), f"{field}.{selector}")
        found += causes.one_of(
            f"{field}.reinvocationPolicy", hook.get("reinvocationPolicy"), REINVOCATION_POLICIES
        )
        found += validate_client_config(hook.get("clientConfig") or {}, f"{field}.clientConfig")
        return found + validate_match_conditions(
            hook.get("matchConditions") or [], f"{field}.matchConditions"
        )


class MutatingWebhookStrategy(WebhookStrategy):
    defaults: ClassVar[Object] = {**_DEFAULTS, "reinvocationPolicy": "Never"}


def default_rules(rules: list[Object] | None) -> list[Object]:
    return [filled(rule, {"scope": "*"}) for rule in rules or ()]


def default_client_config(config: Object) -> Object:
    """A webhook's service is reached at 443 unless it says otherwise."""
    service = config.get("service")
    if service is None or service.get("port") is not None:
        return config
    return {**config, "service": {**service, "port": 443}}


def validate_client_config(config: Object, field: str) -> list[Cause]:
    """Where a webhook is: exactly one of an https URL and a service."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        return [causes.required(field, "exactly one of url or service is required")]
    if url is not None:
        return _validate_url(url, f"{field}.url")
    return _validate_service(service or {}, f"{field}.service")


def validate_rule(rule: Object, field: str) -> list[Cause]:
    """A rule with operations: what it is for, without a star beside anything else."""
    operations: list[str] = rule.get("operations") or []
    path = f"{field}.operations"
    found = [] if operations else [causes.required(path)]
    if len(operations) > 1 and "*" in operations:
        found.append(_only_star(path, operations, "operations"))
    for at, operation in enumerate(operations):
        found += causes.one_of(f"{path}[{at}]", operation, _OPERATIONS)
    for name, words in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        values = rule.get(name) or []
        if not values:
            found.append(causes.required(f"{field}.{name}"))
        if len(values) > 1 and "*" in values:
            found.append(_only_star(f"{field}.{name}", values, words))
    found += [
        causes.required(f"{field}.apiVersions[{at}]")
        for at, version in enumerate(rule.get("apiVersions") or ())
        if not version
    ]
    found += _validate_resources(rule.get("resources") or [], f"{field}.resources")
    return found + causes.one_of(f"{field}.scope", rule.get("scope"), _SCOPES)


def validate_match_conditions(conditions: list[Object], field: str) -> list[Cause]:
    """Named, unique, none empty. Whether an expression compiles is not decided here."""
    found: list[Cause] = []
    if len(conditions) > CONDITIONS_MAX:
        found.append(causes.too_many(field, len(conditions), CONDITIONS_MAX))
    seen: set[str] = set()
    for at, condition in enumerate(conditions):
        path, name = f"{field}[{at}]", condition.get("name") or ""
        if not (condition.get("expression") or "").strip():
            found.append(causes.required(f"{path}.expression"))
        if not name:
            found.append(causes.required(f"{path}.name"))
            continue
        found += causes.problems(f"{path}.name", name, names.is_qualified_name(name))
        if name in seen:
            found.append(causes.duplicate(f"{path}.name", name))
        seen.add(name)
    return found


def _only_star(field: str, values: list[str], others: str) -> Cause:
    return causes.invalid_value(field, values, f"if '*' is present, must not specify other {others}")


def _validate_name(name: str, field: str) -> list[Cause]:
    if not name:
        return [causes.required(field)]
    return causes.problems(field, name, names.is_fully_qualified_name(name))


def _validate_resources(resources: list[str], field: str) -> list[Cause]:
    found = [] if resources else [causes.required(field)]
    all_below: set[str] = set()
    of_all: set[str] = set()
    for at, text in enumerate(resources):
        if not text:
            found.append(causes.required(f"{field}[{at}]"))
        resource, slash, sub = text.partition("/")
        if not slash:
            continue
        covering = [f"{resource}/*"] if resource in all_below else []
        covering += [f"*/{sub}"] if sub in of_all else []
        for other in covering:
            why = f"if '{other}' is present, must not specify {text}"
            found.append(causes.invalid_value(f"{field}[{at}]", text, why))
        all_below |= {resource} if sub == "*" else set()
        of_all |= {sub} if resource == "*" else set()
    if len(resources) > 1 and "*/*" in resources:
        why = "if '*/*' is present, must not specify other resources"
        found.append(causes.invalid_value(field, resources, why))
    if "*" in resources and any(text != "*" and "/" not in text for text in resources):
        why = "if '*' is present, must not specify other resources without subresources"
        found.append(causes.invalid_value(field, resources, why))
    return found


def _validate_review_versions(versions: list[str], field: str) -> list[Cause]:
    known = ", ".join(REVIEW_VERSIONS)
    if not versions:
        return [causes.required(field, f"must specify one of {known}")]
    found: list[Cause] = []
    for at, version in enumerate(versions):
        if version in versions[:at]:
            found.append(causes.invalid_value(f"{field}[{at}]", version, "duplicate version"))
        else:
            found += causes.problems(f"{field}[{at}]", version, names.is_dns1035_label(version))
    if not set(versions) & set(REVIEW_VERSIONS):
        found.append(causes.invalid_value(field, versions, f"must include at least one of {known}"))
    return found


def _validate_url(url: str, field: str) -> list[Cause]:
    try:
        parts = urlsplit(url)
        host, user = parts.hostname, parts.username
    except ValueError as error:
        return [causes.required(field, f"url must be a valid URL: {error}{_FORM}")]
    found: list[Cause] = []
    if parts.scheme != "https":
        text = f"'https' is the only allowed URL scheme{_FORM}"
        found.append(causes.invalid_value(field, parts.scheme, text))
    if not host:
        found.append(causes.invalid_value(field, "", f"host must be specified{_FORM}"))
    for value, what in (
        (user, "user information is not permitted in the URL"),
        (parts.fragment, "fragments are not permitted in the URL"),
        (parts.query, "query parameters are not permitted in the URL"),
    ):
        if value:
            found.append(causes.invalid_value(field, value, what))
    return found


def _validate_service(service: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    for name in ("name", "namespace"):
        if not service.get(name):
            found.append(causes.required(f"{field}.{name}", f"service {name} is required"))
    port = service.get("port")
    if port is not None:
        found += [
            causes.invalid_value(f"{field}.port", port, f"port is not valid: {text}")
            for text in names.is_port_number(port)
        ]
    return found + _validate_path(service.get("path") or "", f"{field}.path")


def _validate_path(path: str, field: str) -> list[Cause]:
    if path in ("", "/"):
        return []
    if path == "//":
        return [causes.invalid_value(field, path, "segment[0] may not be empty")]
    found = [] if path.startswith("/") else [causes.invalid_value(field, path, "must start with a '/'")]
    for at, step in enumerate(path[1:].removesuffix("/").split("/")):
        texts = names.is_dns1123_subdomain(step) if step else []
        found += [causes.invalid_value(field, path, f"segment[{at}]: {text}") for text in texts]
        if not step:
            found.append(causes.invalid_value(field, path, f"segment[{at}] may not be empty"))
    return found
