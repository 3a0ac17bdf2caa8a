"""Whole objects inside of custom ones (`x-kubernetes-embedded-resource`): they say what they are. Pure.

1. `apiVersion` and `kind` are there, texts, and could be those of a kind.
2. Of `metadata`, which may be left out, the name could stand in a path and the labels are labels.

Source: the object-meta validation of Kubernetes' apiextensions server. Called by `validation`.
"""

from collections.abc import Iterator
from typing import Any

from orchestrator.api import names
from orchestrator.api.custom import problems
from orchestrator.api.errors import Cause


def check_embedded(value: dict[str, Any], path: str) -> Iterator[Cause]:
    """What is wrong with an embedded object at `path`."""
    for name in ("apiVersion", "kind"):
        field = f"{path}.{name}"
        if name not in value:
            yield problems.required(field)
            continue
        text = value[name]
        if type(text) is not str:
            yield problems.invalid(field, text, "must be a string")
        elif not text:
            yield problems.invalid(field, text, "must not be empty")
        elif name == "apiVersion" and text.count("/") > 1:
            yield problems.invalid(field, text, f"unexpected GroupVersion string: {text}")
        elif name == "kind" and (faults := names.is_dns1035_label(text.lower())):
            detail = "may have mixed case, but should otherwise match: " + ",".join(faults)
            yield problems.invalid(field, text, detail)
    metadata = value.get("metadata")
    if type(metadata) is dict:
        yield from _metadata(metadata, f"{path}.metadata")


def _metadata(metadata: dict[str, Any], path: str) -> Iterator[Cause]:
    name = metadata.get("name")
    for fault in names.is_path_segment(name) if type(name) is str and name else ():
        yield problems.invalid(f"{path}.name", name, fault)
    labels = metadata.get("labels")
    for key, label in labels.items() if type(labels) is dict else ():
        for fault in names.is_qualified_name(key):
            yield problems.invalid(f"{path}.labels", key, fault)
        for fault in names.is_label_value(label) if type(label) is str else ():
            yield problems.invalid(f"{path}.labels", label, fault)
