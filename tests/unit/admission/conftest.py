"""Requests as the registry makes them, and a reader over a few objects."""

from typing import Any

import pytest

from orchestrator.admission.chain import AdmissionRequest
from orchestrator.api.access import ADMIN, Identity
from orchestrator.api.item import Item, Object, encode
from orchestrator.api.resources import Resource


class Objects:
    """A reader whose state a test sets."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str, str], Item] = {}

    def put(self, resource: Resource, obj: Object) -> None:
        metadata = obj["metadata"]
        key = (resource.plural, metadata.get("namespace", ""), metadata["name"])
        self.held[key] = Item(encode(obj), 1)

    async def find(self, resource: Resource, namespace: str, name: str) -> Item | None:
        return self.held.get((resource.plural, namespace, name))

    async def all(self, resource: Resource) -> list[Item]:
        return [item for (plural, _, _), item in self.held.items() if plural == resource.plural]

    async def within(self, resource: Resource, namespace: str) -> list[Item]:
        return [item for item in await self.all(resource) if item.meta.namespace == namespace]


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def request_for() -> Any:
    def make(
        operation: Any, resource: Resource, new: Object | None = None, old: Object | None = None,
        identity: Identity = ADMIN, subresource: str = "",
    ) -> AdmissionRequest:  # fmt: skip
        metadata = (new or old or {})["metadata"]
        namespace = metadata.get("namespace", "default") if resource.namespaced else ""
        return AdmissionRequest(
            operation, resource, subresource, namespace, metadata["name"], new, old, identity
        )

    return make
