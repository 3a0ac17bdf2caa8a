"""No content in namespaces that are absent or going; some namespaces stay."""

import pytest

from orchestrator.admission.chain import AdmissionChain
from orchestrator.admission.namespace_lifecycle import NamespaceLifecycle
from orchestrator.api.errors import Forbidden, NotFound
from orchestrator.api.resources import CONFIGMAPS, NAMESPACES, NODES

_MAP = {"metadata": {"name": "a", "namespace": "team"}}


@pytest.fixture
def chain(objects):
    return AdmissionChain((NamespaceLifecycle(objects),))


async def test_a_missing_namespace_is_not_found(chain, request_for):
    with pytest.raises(NotFound, match=r'^namespaces "team" not found$'):
        await chain.admit(request_for("CREATE", CONFIGMAPS, _MAP))


async def test_a_terminating_namespace_takes_no_new_content(chain, objects, request_for):
    going = {"metadata": {"name": "team", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    objects.put(NAMESPACES, going)
    with pytest.raises(Forbidden, match="because it is being terminated") as caught:
        await chain.admit(request_for("CREATE", CONFIGMAPS, _MAP))
    assert caught.value.causes[0].reason == "NamespaceTerminating"
    await chain.admit(request_for("UPDATE", CONFIGMAPS, _MAP, _MAP))
    await chain.admit(request_for("DELETE", CONFIGMAPS, None, _MAP))


async def test_an_active_namespace_and_cluster_scoped_objects_pass(chain, objects, request_for):
    objects.put(NAMESPACES, {"metadata": {"name": "team"}})
    assert await chain.admit(request_for("CREATE", CONFIGMAPS, _MAP)) is _MAP
    await chain.admit(request_for("CREATE", NODES, {"metadata": {"name": "n1"}}))


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public", "kube-node-lease"])
async def test_the_systems_namespaces_stay(chain, request_for, name):
    with pytest.raises(
        Forbidden, match=f'namespaces "{name}" is forbidden: this namespace may not be deleted'
    ):
        await chain.admit(request_for("DELETE", NAMESPACES, None, {"metadata": {"name": name}}))
    await chain.admit(request_for("DELETE", NAMESPACES, None, {"metadata": {"name": "team"}}))
