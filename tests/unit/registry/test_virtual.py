"""Kinds that nobody stores: asked of a provider, selected like others."""

import pytest

from orchestrator.api.errors import NotFound
from orchestrator.api.resources import COMPONENTSTATUSES
from orchestrator.assembly.components import component_statuses
from orchestrator.server.health import Unhealthy


async def _fine():
    return None


async def _broken():
    raise Unhealthy("no disk")


async def test_components_are_listed_selected_and_read_by_name(api):
    assert (await api.list(COMPONENTSTATUSES, None)).items == []

    async def statuses():
        return await component_statuses({"scheduler": _fine, "etcd-0": _broken})

    api.registry.virtual.connect(COMPONENTSTATUSES, statuses)
    found = await api.list(COMPONENTSTATUSES, None)
    assert api.names(found.items) == ["etcd-0", "scheduler"]
    one = await api.list(COMPONENTSTATUSES, None, field_selector="metadata.name=etcd-0")
    assert api.names(one.items) == ["etcd-0"]
    scheduler = await api.get(COMPONENTSTATUSES, "scheduler", "")
    assert (scheduler["kind"], scheduler["apiVersion"]) == ("ComponentStatus", "v1")
    assert scheduler["conditions"] == [{"type": "Healthy", "status": "True", "message": "ok"}]
    etcd = await api.get(COMPONENTSTATUSES, "etcd-0", "")
    assert etcd["conditions"] == [
        {"type": "Healthy", "status": "False", "message": "no disk", "error": "no disk"}
    ]
    with pytest.raises(NotFound, match='componentstatuses "other" not found'):
        await api.get(COMPONENTSTATUSES, "other", "")
