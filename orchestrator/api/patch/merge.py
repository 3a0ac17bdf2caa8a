"""JSON merge patch, RFC 7386."""

from typing import Any

from orchestrator.api.errors import BadRequest
from orchestrator.api.item import Object

DEPTH_MAX = 200


def merge_patch(obj: Object, patch: Any) -> Object:
    """`obj` with `patch` merged in; null removes a field. Raises `BadRequest` unless `patch` is an object."""
    if not isinstance(patch, dict):
        raise BadRequest("error decoding patch: json: cannot unmarshal a merge patch that is not an object")
    result: Object = _merge(obj, patch, 0)
    return result


def _merge(target: Any, patch: Any, depth: int) -> Any:
    if not isinstance(patch, dict):
        return patch
    if depth > DEPTH_MAX:
        raise BadRequest(f"error decoding patch: exceeded max depth of {DEPTH_MAX}")
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge(result.get(key), value, depth + 1)
    return result
