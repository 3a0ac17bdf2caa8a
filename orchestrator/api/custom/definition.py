"""Validation of CustomResourceDefinitions (`apiextensions.k8s.io/v1`), in Kubernetes' words. Pure.

Paths: what all versions have in common (always so with a single one) is named at the top, such as
`spec.validation.openAPIV3Schema`, as Kubernetes keeps it. Called by the kind's strategy.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from orchestrator.api import names
from orchestrator.api.custom import problems
from orchestrator.api.custom.jsonpath import simple_parts
from orchestrator.api.custom.schema_rules import check_rules
from orchestrator.api.custom.shapes import check_shapes
from orchestrator.api.custom.structural import check_structural
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object

APPROVAL = "api-approved.kubernetes.io"
_APPROVAL_HELP = "see https://github.com/kubernetes/enhancements/pull/1111"
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
SELECTABLE_MAX = 8
WARNING_LENGTH_MAX = 256


def check_definition(crd: Object, old: Object | None) -> list[Cause]:
    """What is wrong with a definition, metadata's general rules apart; `old` is what it replaces."""
    spec = crd["spec"]
    found = list(_name(crd))
    found += _spec(spec, "spec")
    if found and old is not None:
        known = set(_spec(old["spec"], "spec"))  # What is wrong since before stays acceptable.
        found = [cause for cause in found if cause not in known]
    if old is not None:
        found += _unchanged(spec, old)
        found += _stored_versions(crd)
    else:
        found += _approval(crd)
    return found


def _name(crd: Object) -> Iterator[Cause]:
    spec = crd["spec"]
    wanted = f"{(spec.get('names') or {}).get('plural') or ''}.{spec.get('group') or ''}"
    name = crd["metadata"].get("name") or ""
    if name != wanted:
        yield problems.invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group')


def is_protected(group: str) -> bool:
    """Whether a group is Kubernetes' own, whose definitions need an approval."""
    return any(group == own or group.endswith(f".{own}") for own in ("k8s.io", "kubernetes.io"))


def approval(crd: Object) -> tuple[str, str, str]:
    """(status, reason, message) of the approval of a definition in a protected group."""
    text = (crd["metadata"].get("annotations") or {}).get(APPROVAL) or ""
    if not text:
        return (
            "False",
            "MissingAnnotation",
            f'protected groups must have approval annotation "{APPROVAL}", {_APPROVAL_HELP}',
        )
    if text.startswith("unapproved"):
        return "False", "UnapprovedAnnotation", f'not approved: "{text}"'
    if "://" in text:
        return "True", "ApprovedAnnotation", f"approved in {text}"
    return (
        "False",
        "InvalidAnnotation",
        f'protected groups must have approval annotation "{APPROVAL}" with either a URL or a reason starting with'
        f' "unapproved", {_APPROVAL_HELP}',
    )


def _approval(crd: Object) -> Iterator[Cause]:
    if not is_protected(crd["spec"].get("group") or ""):
        return
    field = f"metadata.annotations[{APPROVAL}]"
    _, reason, message = approval(crd)
    if reason == "MissingAnnotation":
        yield problems.required(field, message)
    elif reason == "InvalidAnnotation":
        yield problems.invalid(field, crd["metadata"]["annotations"][APPROVAL], message)


def _spec(spec: Object, path: str) -> Iterator[Cause]:
    group, scope = spec.get("group") or "", spec.get("scope") or ""
    if not group:
        yield problems.required(f"{path}.group")
    elif faults := names.is_dns1123_subdomain(group):
        yield problems.invalid(f"{path}.group", group, ",".join(faults))
    elif "." not in group:
        yield problems.invalid(f"{path}.group", group, "should be a domain with at least one dot")
    if not scope:
        yield problems.required(f"{path}.scope")
    elif scope not in ("Cluster", "Namespaced"):
        yield problems.unsupported(f"{path}.scope", scope, ("Cluster", "Namespaced"))
    if spec.get("preserveUnknownFields"):
        yield problems.invalid(
            f"{path}.preserveUnknownFields",
            True,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in"
            " spec.versions[*].schema instead",
        )
    given = spec.get("names") or {}
    for name in ("plural", "singular", "kind", "listKind"):
        if not given.get(name):
            yield problems.required(f"{path}.names.{name}")
    yield from check_names(given, f"{path}.names")
    yield from _versions(spec.get("versions") or [], path)
    yield from _conversion(spec.get("conversion"), f"{path}.conversion")


def check_names(given: Object, path: str) -> Iterator[Cause]:
    """`spec.names` or `status.acceptedNames`."""
    for name in ("plural", "singular"):
        yield from _label(given.get(name) or "", f"{path}.{name}")
    for name in ("kind", "listKind"):
        value = given.get(name) or ""
        faults = names.is_dns1035_label(value.lower()) if value else []
        if faults:
            detail = "may have mixed case, but should otherwise match: " + ",".join(faults)
            yield problems.invalid(f"{path}.{name}", value, detail)
    for name in ("shortNames", "categories"):
        for at, value in enumerate(given.get(name) or ()):
            yield from _label(value, f"{path}.{name}[{at}]", empty=False)
    if given.get("kind") and given.get("kind") == given.get("listKind"):
        yield problems.invalid(f"{path}.listKind", given["listKind"], "kind and listKind may not be the same")


def _label(value: str, field: str, *, empty: bool = True) -> Iterator[Cause]:
    faults = names.is_dns1035_label(value) if value or not empty else []
    if faults:
        yield problems.invalid(field, value, ",".join(faults))


def _versions(versions: list[Object], path: str) -> Iterator[Cause]:
    given = [version.get("name") or "" for version in versions]
    for at, name in enumerate(given):
        yield from _label(name, f"{path}.versions[{at}].name", empty=False)
        yield from _deprecation(versions[at], f"{path}.versions[{at}]")
    if any(count > 1 for count in Counter(given).values()):
        yield problems.invalid(f"{path}.versions", given, "must contain unique version names")
    if sum(bool(version.get("storage")) for version in versions) != 1:
        detail = "must have exactly one version marked as storage version"
        yield problems.invalid(f"{path}.versions", given, detail)
    for name, top, check in (
        ("schema", "validation", _schema),
        ("subresources", "subresources", _subresources),
        ("additionalPrinterColumns", "additionalPrinterColumns", _columns),
        ("selectableFields", "selectableFields", _selectable),
    ):
        values = [version.get(name) for version in versions]
        if values and all(value == values[0] for value in values):
            yield from check(versions[0], f"{path}.{top}")
        else:
            for at, version in enumerate(versions):
                yield from check(version, f"{path}.versions[{at}].{name}")


def _deprecation(version: Object, path: str) -> Iterator[Cause]:
    text, field = version.get("deprecationWarning"), f"{path}.deprecationWarning"
    if text is None:
        return
    if not version.get("deprecated"):
        yield problems.invalid(field, text, "can only be set for deprecated versions")
    if len(text.encode()) > WARNING_LENGTH_MAX:
        yield problems.invalid(field, text, f"must be <= {WARNING_LENGTH_MAX} characters long")
    if not text.strip():
        yield problems.invalid(field, text, "must not be empty")
    elif not text.isprintable():
        yield problems.invalid(
            field, text, "must only contain printable UTF-8 characters; non-printable found"
        )


def _schema(version: Object, path: str) -> Iterator[Cause]:
    schema, path = (version.get("schema") or {}).get("openAPIV3Schema"), f"{path}.openAPIV3Schema"
    if schema is None:
        yield problems.required(path, "schemas are required")
        return
    misshapen = check_shapes(schema, path)
    if misshapen:
        yield from misshapen
        return
    has_status = (version.get("subresources") or {}).get("status") is not None
    yield from check_rules(schema, path, has_status=has_status)
    yield from check_structural(schema, path)


def _subresources(version: Object, path: str) -> Iterator[Cause]:
    scale = (version.get("subresources") or {}).get("scale")
    if scale is None:
        return
    for name, below, needed in (
        ("specReplicasPath", ".spec", True),
        ("statusReplicasPath", ".status", True),
        ("labelSelectorPath", ".status", False),
    ):
        value, field = scale.get(name) or "", f"{path}.scale.{name}"
        if not value:
            if needed:
                yield problems.required(field)
        elif not value.startswith("."):
            yield problems.invalid(field, value, "must be a simple json path starting with .")
        elif name == "labelSelectorPath" and value.startswith(".spec.") and simple_parts(value):
            continue
        elif not value.startswith(f"{below}."):
            where = f"{below} or .spec" if name == "labelSelectorPath" else below
            yield problems.invalid(field, value, f"should be a json path under {where}")
        elif simple_parts(value) is None:
            yield problems.invalid(field, value, "must be a json path in the dot notation")


def _columns(version: Object, path: str) -> Iterator[Cause]:
    for at, column in enumerate(version.get("additionalPrinterColumns") or ()):
        field = f"{path}[{at}]"
        if not column.get("name"):
            yield problems.required(f"{field}.name")
        kind = column.get("type") or ""
        if not kind:
            yield problems.required(f"{field}.type", f"must be one of {','.join(_COLUMN_TYPES)}")
        elif kind not in _COLUMN_TYPES:
            yield problems.invalid(f"{field}.type", kind, f"must be one of {','.join(_COLUMN_TYPES)}")
        form = column.get("format") or ""
        if form and form not in _COLUMN_FORMATS:
            yield problems.invalid(f"{field}.format", form, f"must be one of {','.join(_COLUMN_FORMATS)}")
        json_path = column.get("jsonPath") or ""
        if not json_path:
            yield problems.required(f"{field}.JSONPath")
        elif not json_path.startswith("."):
            yield problems.invalid(
                f"{field}.JSONPath", json_path, "must be a simple json path starting with ."
            )


def _selectable(version: Object, path: str) -> Iterator[Cause]:
    fields = version.get("selectableFields") or []
    if len(fields) > SELECTABLE_MAX:
        yield problems.too_many(path, len(fields), SELECTABLE_MAX)
    seen: set[str] = set()
    for at, selectable in enumerate(fields):
        field, json_path = f"{path}[{at}].jsonPath", selectable.get("jsonPath") or ""
        parts = simple_parts(json_path)
        if not json_path:
            yield problems.required(field)
            continue
        if json_path in seen:
            yield problems.duplicate(field, json_path)
        seen.add(json_path)
        if parts is None:
            yield problems.invalid(field, json_path, "must be a simple json path starting with .")
        elif parts[0] == "metadata":
            yield problems.invalid(field, json_path, "must not point to fields in metadata")
        else:
            yield from _selectable_type(version, parts, field, json_path)


def _selectable_type(version: Object, parts: tuple[str, ...], field: str, json_path: str) -> Iterator[Cause]:
    place: Any = (version.get("schema") or {}).get("openAPIV3Schema")
    for part in parts:
        properties = place.get("properties") if isinstance(place, dict) else None
        place = properties.get(part) if isinstance(properties, dict) else None
    if not isinstance(place, dict):
        yield problems.invalid(
            field, json_path, f"does not refer to a valid field: field not found: {parts[-1]}"
        )
    elif place.get("type") not in ("string", "boolean", "integer"):
        detail = (
            "must point to a field of type string, boolean or integer. Enum string fields and strings with formats"
            " are allowed."
        )
        yield problems.invalid(field, json_path, detail)


def _conversion(conversion: Object | None, path: str) -> Iterator[Cause]:
    if conversion is None:
        return
    strategy, webhook = conversion.get("strategy") or "", conversion.get("webhook")
    if not strategy:
        yield problems.required(f"{path}.strategy")
    elif strategy not in ("None", "Webhook"):
        yield problems.unsupported(f"{path}.strategy", strategy, ("None", "Webhook"))
    if strategy == "None" and webhook is not None:
        yield problems.forbidden(f"{path}.webhook", "should not be set when strategy is not set to Webhook")
    if strategy == "Webhook":
        yield from _webhook(webhook or {}, path)


def _webhook(webhook: Object, path: str) -> Iterator[Cause]:
    config, field = webhook.get("clientConfig"), f"{path}.webhookClientConfig"
    if config is None:
        yield problems.required(field, "required when strategy is set to Webhook")
    elif (config.get("url") is None) == (config.get("service") is None):
        yield problems.required(field, "exactly one of url or service is required")
    elif config.get("url") is not None and not config["url"].startswith("https://"):
        detail = "'https' is the only allowed URL scheme; desired format: https://host[/path]"
        yield problems.invalid(f"{field}.url", config["url"], detail)
    elif config.get("service") is not None:
        for name in ("name", "namespace"):
            if not config["service"].get(name):
                yield problems.required(f"{field}.service.{name}", f"service {name} is required")
    versions, field = webhook.get("conversionReviewVersions") or [], f"{path}.conversionReviewVersions"
    if not versions:
        yield problems.required(field)
    elif not {"v1", "v1beta1"} & set(versions):
        yield problems.invalid(field, versions, "must include at least one of v1, v1beta1")


def _unchanged(spec: Object, old: Object) -> Iterator[Cause]:
    before = old["spec"]
    fields = [("group", spec.get("group"), before.get("group"))]
    given, had = spec.get("names") or {}, before.get("names") or {}
    fields.append(("names.plural", given.get("plural"), had.get("plural")))
    established = any(
        each.get("type") == "Established" and each.get("status") == "True"
        for each in (old.get("status") or {}).get("conditions") or ()
    )
    if established:
        fields.append(("scope", spec.get("scope"), before.get("scope")))
        fields.append(("names.kind", given.get("kind"), had.get("kind")))
    for name, new, known in fields:
        if new != known:
            yield problems.invalid(f"spec.{name}", new, "field is immutable")


def _stored_versions(crd: Object) -> Iterator[Cause]:
    stored = (crd.get("status") or {}).get("storedVersions") or []
    known = {version.get("name"): version for version in crd["spec"].get("versions") or ()}
    field = "status.storedVersions"
    if not stored:
        yield problems.invalid(field, stored, "must have at least one stored version")
    for at, name in enumerate(stored):
        if name not in known:
            yield problems.invalid(f"{field}[{at}]", name, "must appear in spec.versions")
    for name, version in known.items():
        if version.get("storage") and name not in stored:
            yield problems.invalid(field, stored, f"must have the storage version {name}")
