"""The Scale of custom kinds, whose definition says where replicas and selector are. Pure; called by `subresources`."""

from typing import Any

from orchestrator.api.errors import InternalError
from orchestrator.api.item import Item, Object, encode

Paths = tuple[str, str, str]
"""Spec replicas, status replicas and selector, such as `.spec.replicas`; the selector's may be empty."""

_SHOWN = ("name", "namespace", "uid", "creationTimestamp")


def custom_scale(item: Item, paths: Paths, missing: int | None = None) -> Item:
    """An `autoscaling/v1` Scale; `missing` stands for replicas that the object lacks.

    Without it raises `InternalError` there, as Kubernetes does for those who read.
    """
    obj = item.object
    replicas = _at(obj, paths[0])
    if replicas is None:
        replicas = missing
    if replicas is None:
        raise InternalError(f'the spec replicas field "{paths[0]}" does not exist')
    state: Object = {"replicas": _at(obj, paths[1]) or 0}
    selector = _at(obj, paths[2]) if paths[2] else None
    if selector:
        state["selector"] = selector
    metadata = obj["metadata"]
    scale = {
        "metadata": {key: metadata[key] for key in _SHOWN if key in metadata},
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "spec": {"replicas": replicas},
        "status": state,
    }
    return Item(encode(scale), item.revision)


def with_replicas(obj: Object, paths: Paths, replicas: int) -> Object:
    """`obj` with its spec's replicas set; only what lies on the path is copied."""
    return _with(obj, _parts(paths[0]), replicas)


def _parts(path: str) -> list[str]:
    return path.lstrip(".").split(".")


def _at(value: Any, path: str) -> Any:
    for part in _parts(path):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def _with(obj: Object, parts: list[str], value: Any) -> Object:
    if len(parts) == 1:
        return {**obj, parts[0]: value}
    below = obj.get(parts[0])
    return {**obj, parts[0]: _with(below if isinstance(below, dict) else {}, parts[1:], value)}
