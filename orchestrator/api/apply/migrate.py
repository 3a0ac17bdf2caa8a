"""From client-side to server-side apply: what `kubectl` may do that other appliers may not.

Its client-side apply left the whole configuration in an annotation. Where the live object still says what stands
there, `kubectl` takes fields over without being told to force. As long as the annotation exists it is kept up to
date, so that one can go back.
"""

import msgspec

from orchestrator.api.apply import fieldset, merge
from orchestrator.api.apply.fieldset import LEAF, FieldSet
from orchestrator.api.apply.managed import Write
from orchestrator.api.apply.merge import Applied, Conflicts
from orchestrator.api.apply.shapes import Fields
from orchestrator.api.item import Object

MANAGER = "kubectl"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
ANNOTATIONS_BYTES_MAX = 256 * 1024


def applied(live: Object, config: Object, write: Write, shape: Fields, force: bool) -> Applied:
    """`merge.applied`, with what `kubectl` may do besides."""
    try:
        outcome = merge.applied(live, config, write, shape, force)
    except Conflicts as conflicts:
        if write.manager != MANAGER:
            raise
        allowed = _unchanged_since(live, write.api_version, shape)
        rest = [(held, fieldset.difference(fields, allowed)) for held, fields in conflicts.found]
        rest = [(held, fields) for held, fields in rest if fields]
        if rest:
            raise Conflicts(rest) from None
        outcome = merge.applied(live, config, write, shape, True)
    return _annotated(outcome, config) if write.manager == MANAGER else outcome


def _last_applied(obj: Object) -> str:
    annotations = obj.get("metadata", {}).get("annotations") or {}
    return str(annotations.get(LAST_APPLIED) or "")


def _unchanged_since(live: Object, api_version: str, shape: Fields) -> FieldSet:
    """Fields of the annotation's configuration whose value is still the live one."""
    try:
        last = msgspec.json.decode(_last_applied(live) or "null")
    except msgspec.DecodeError:
        return LEAF
    if not isinstance(last, dict) or last.get("apiVersion") != api_version:
        return LEAF
    if not isinstance(last.get("metadata"), dict) or next(iter(shape.faults(last, "")), None):
        return LEAF
    changed, removed = shape.changes(last, live)
    fields = fieldset.difference(shape.owned(last) or LEAF, changed or LEAF)
    return fieldset.without(fields, removed or LEAF)


def _annotated(outcome: Applied, config: Object) -> Applied:
    """The outcome with the annotation, if it still has it, as this apply would have left it."""
    if not _last_applied(outcome.object):
        return outcome
    text = msgspec.json.encode(_without_annotation(config), order="sorted").decode() + "\n"
    metadata = outcome.object["metadata"]
    annotations = {key: value for key, value in metadata["annotations"].items() if key != LAST_APPLIED}
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size + len(LAST_APPLIED) + len(text.encode()) <= ANNOTATIONS_BYTES_MAX:
        annotations[LAST_APPLIED] = text
    return Applied({**outcome.object, "metadata": {**metadata, "annotations": annotations}}, outcome.entries)


def _without_annotation(config: Object) -> Object:
    metadata = {key: value for key, value in config["metadata"].items() if key != "managedFields"}
    annotations = metadata.get("annotations")
    if annotations and LAST_APPLIED in annotations:
        kept = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
        metadata["annotations"] = kept
    return {**config, "metadata": metadata}
