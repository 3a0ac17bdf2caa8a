"""Pods and nodes as the scheduler sees them."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.api.item import Item, encode
from orchestrator.scheduler.rules.infos import NodeInfo, PodInfo

_serial = itertools.count(1)


def make_item(name: str = "p", cpu: str = "", memory: str = "", **spec: Any) -> Item:
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    container = {"name": "c", "image": "i", "resources": {"requests": requests}}
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}", **spec.pop("meta", {})}
    status = spec.pop("status", {})
    obj = {
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"containers": [container], **spec}, "status": status,
    }  # fmt: skip
    return Item(encode(obj), next(_serial))


def make_node(name: str, cpu: str = "4", memory: str = "8Gi", pods: str = "110", **parts: Any) -> NodeInfo:
    allocatable = {"cpu": cpu, "memory": memory, "pods": pods, **parts.pop("resources", {})}
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **parts.pop("labels", {})}}
    return NodeInfo({"metadata": metadata, "spec": parts, "status": {"allocatable": allocatable}})


@pytest.fixture
def item() -> Callable[..., Item]:
    return make_item


@pytest.fixture
def pod() -> Callable[..., PodInfo]:
    return lambda *args, **spec: PodInfo(make_item(*args, **spec))


@pytest.fixture
def node() -> Callable[..., NodeInfo]:
    return make_node
