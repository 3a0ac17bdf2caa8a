"""What a CustomResourceDefinition may say: one fault each, with Kubernetes' field and words."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.api.custom.definition import approval, check_definition

Json = dict[str, Any]
SCHEMA = "spec.validation.openAPIV3Schema"
A = f"{SCHEMA}.properties[a]"


def _crd() -> Json:
    return {
        "metadata": {"name": "shirts.stable.example.com"},
        "spec": {
            "group": "stable.example.com",
            "scope": "Namespaced",
            "names": {"plural": "shirts", "singular": "shirt", "kind": "Shirt", "listKind": "ShirtList"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"a": {"type": "string"}}}}}],
        },
        "status": {"storedVersions": ["v1"]},
    }  # fmt: skip


def _version(crd: Json) -> Json:
    return crd["spec"]["versions"][0]  # type: ignore[no-any-return]


def _root(crd: Json) -> Json:
    return _version(crd)["schema"]["openAPIV3Schema"]  # type: ignore[no-any-return]


def _a(**field: Any) -> Callable[[Json], None]:
    return lambda crd: _root(crd)["properties"].__setitem__("a", field)


def _spec(**fields: Any) -> Callable[[Json], None]:
    return lambda crd: crd["spec"].update(fields)


def _versioned(**fields: Any) -> Callable[[Json], None]:
    return lambda crd: _version(crd).update(fields)


_LIST = "x-kubernetes-list-type"
_ITEM = {"type": "object", "properties": {"k": {"type": "string"}}, "required": ["k"]}


@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
        (_spec(group="nodots"), "metadata.name", 'must be spec.names.plural+"."+spec.group'),
        (_spec(group="nodots"), "spec.group", "should be a domain with at least one dot"),
        (_spec(scope="World"), "spec.scope", 'Unsupported value: "World": supported values: "Cluster", "Namespaced"'),
        (_spec(versions=[]), "spec.versions", "must have exactly one version marked as storage version"),
        (_spec(preserveUnknownFields=True), "spec.preserveUnknownFields", "cannot set to true"),
        (_versioned(name="V1"), "spec.versions[0].name", "a DNS-1035 label"),
        (_versioned(schema=None), SCHEMA, "Required value: schemas are required"),
        (_versioned(deprecationWarning="x"), "spec.versions[0].deprecationWarning", "only be set for deprecated"),
        (_spec(conversion={"strategy": "Webhook"}), "spec.conversion.webhookClientConfig", "required when strategy"),
        (_versioned(additionalPrinterColumns=[{"name": "x", "type": "text", "jsonPath": ".a"}]),
         "spec.additionalPrinterColumns[0].type", "must be one of boolean,date,integer,number,string"),
        (_versioned(subresources={"scale": {"specReplicasPath": ".status.x", "statusReplicasPath": ".status.y"}}),
         "spec.subresources.scale.specReplicasPath", "should be a json path under .spec"),
        (_versioned(selectableFields=[{"jsonPath": ".b"}]), "spec.selectableFields[0].jsonPath", "valid field"),
        (lambda crd: _root(crd).pop("type"), f"{SCHEMA}.type", "must not be empty at the root"),
        (_a(), f"{A}.type", "Required value: must not be empty for specified object fields"),
        (_a(type="array"), f"{A}.items", "Required value: must be specified"),
        (_a(type="text"), f"{A}.type", 'Unsupported value: "text"'),
        (_a(type="string", pattern="("), f"{A}.pattern", "must be a valid regular expression, but isn't"),
        (_a(type="string", default=5), f"{A}.default", 'must be of type string: "integer"'),
        (_a(type="object", default={"x": 1}), f"{A}.default", "must not have unknown fields"),
        (_a(type="object", properties={"b": {"type": "string"}}, additionalProperties={"type": "string"}),
         f"{A}.additionalProperties", "additionalProperties and properties are mutual exclusive"),
        (_a(type="string", uniqueItems=True), f"{A}.uniqueItems", "runtime complexity becomes quadratic"),
        (_a(type="string", anyOf=[{"type": "string"}]), f"{A}.anyOf[0].type", "must be empty to be structural"),
        (_a(type="object", anyOf=[{"properties": {"z": {"minLength": 1}}}]), f"{A}.properties[z]",
         f"because it is defined in {A}.anyOf[0].properties[z]"),
        (_a(type="array", items=_ITEM, **{_LIST: "map"}), f"{A}.x-kubernetes-list-map-keys", "must not be empty"),
        (_a(type="array", items={**_ITEM, "required": []}, **{_LIST: "map", "x-kubernetes-list-map-keys": ["k"]}),
         f"{A}.items.properties[k].default", "so it must have a default or be a required property"),
        (_a(type="array", items=_ITEM, **{_LIST: "set"}), f"{A}.items.x-kubernetes-map-type", "must be atomic"),
        (_a(type="object", **{"x-kubernetes-embedded-resource": True}), f"{A}.properties", "must not be empty if"),
        (_a(type="string", **{"x-kubernetes-validations": [{"rule": " "}]}),
         f"{A}.x-kubernetes-validations[0].rule", "rule is not specified"),
        (_a(type="array", items={"type": 7}), f"{A}.items.type", "must be of type string"),
        (lambda crd: _root(crd)["properties"].update(metadata={"type": "object", "properties": {"labels": {
            "type": "object"}}}), f"{SCHEMA}.properties[metadata]", "must not specify anything other than name"),
    ],
)  # fmt: skip
def test_one_fault(change: Callable[[Json], Any], field: str, text: str) -> None:
    crd = _crd()
    change(crd)
    found = {cause.field: cause.message for cause in check_definition(crd, None)}
    assert text in found.get(field, ""), found


@pytest.mark.parametrize(
    "change",
    [
        _a(**{"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
        _a(type="array", items=_ITEM, **{_LIST: "map", "x-kubernetes-list-map-keys": ["k"]}),
        _a(type="object", additionalProperties={"type": "integer"}),
        _a(**{"x-kubernetes-preserve-unknown-fields": True}),
        _versioned(selectableFields=[{"jsonPath": ".a"}], subresources={"status": {}}),
        _spec(conversion={"strategy": "None"}),
    ],
)
def test_nothing_wrong(change: Callable[[Json], Any]) -> None:
    crd = _crd()
    change(crd)
    assert check_definition(crd, None) == []


def test_what_may_not_change() -> None:
    old = _crd()
    old["status"]["conditions"] = [{"type": "Established", "status": "True"}]
    new = copy.deepcopy(old)
    new["spec"]["scope"] = "Cluster"
    new["spec"]["names"]["kind"] = "Blouse"
    new["status"]["storedVersions"] = ["v0"]
    found = {cause.field for cause in check_definition(new, old)}
    assert found == {"spec.scope", "spec.names.kind", "status.storedVersions[0]", "status.storedVersions"}


def test_protected_groups_need_an_approval() -> None:
    crd = _crd()
    crd["spec"]["group"] = "gateway.networking.k8s.io"
    crd["metadata"]["name"] = "shirts.gateway.networking.k8s.io"
    assert [cause.reason for cause in check_definition(crd, None)] == ["FieldValueRequired"]
    crd["metadata"]["annotations"] = {"api-approved.kubernetes.io": "https://github.com/x/1"}
    assert check_definition(crd, None) == [] and approval(crd)[0] == "True"


def test_what_was_wrong_before_stays_acceptable_and_nothing_else() -> None:
    old = _crd()
    _a(type="string", pattern="(")(old)
    new = copy.deepcopy(old)
    new["spec"]["names"]["shortNames"] = ["sh"]
    assert check_definition(new, old) == []
    _a(type="string", pattern="[")(new)
    assert [cause.field for cause in check_definition(new, old)] == [f"{A}.pattern"]
    assert check_definition(old, None) != []
