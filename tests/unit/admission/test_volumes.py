"""Protection of storage, claims that may grow, default classes."""

import pytest

from orchestrator.admission.chain import AdmissionChain
from orchestrator.admission.volumes import (
    ClaimResize,
    DefaultIngressClass,
    DefaultStorageClass,
    StorageProtection,
)
from orchestrator.api.errors import Forbidden
from orchestrator.api.resources import INGRESSCLASSES, INGRESSES, PERSISTENTVOLUMECLAIMS, STORAGECLASSES


def _claim(size="1Gi", phase="Bound", **spec):
    return {
        "metadata": {"name": "c", "namespace": "default"},
        "spec": {"resources": {"requests": {"storage": size}}, **spec},
        "status": {"phase": phase},
    }


async def test_a_new_claim_is_protected_once(request_for):
    chain = AdmissionChain((StorageProtection(),))
    admitted = await chain.admit(request_for("CREATE", PERSISTENTVOLUMECLAIMS, _claim()))
    assert admitted["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    again = await chain.admit(request_for("CREATE", PERSISTENTVOLUMECLAIMS, admitted))
    assert again["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (_claim(storageClassName="fast"), _claim("2Gi", storageClassName="fast"), None),
        (_claim(), _claim("1Gi"), None),
        (_claim(phase="Pending"), _claim("2Gi"), "Only bound persistent volume claims can be expanded"),
        (
            _claim(storageClassName="slow"),
            _claim("2Gi", storageClassName="slow"),
            "only dynamically provisioned pvc",
        ),
        (_claim(), _claim("2Gi"), "the storageclass that provisions the pvc must support resize"),
    ],
)
async def test_which_claims_grow(request_for, objects, old, new, why):
    objects.put(STORAGECLASSES, {"metadata": {"name": "fast"}, "allowVolumeExpansion": True})
    objects.put(STORAGECLASSES, {"metadata": {"name": "slow"}})
    chain = AdmissionChain((ClaimResize(objects),))
    request = request_for("UPDATE", PERSISTENTVOLUMECLAIMS, new, old)
    if why is None:
        await chain.admit(request)
    else:
        with pytest.raises(Forbidden, match=why):
            await chain.admit(request)


def _class(name, created, mark="storageclass.kubernetes.io/is-default-class"):
    return {"metadata": {"name": name, "creationTimestamp": created, "annotations": {mark: "true"}}}


async def test_a_claim_without_a_class_gets_the_newest_default(request_for, objects):
    chain = AdmissionChain((DefaultStorageClass(objects),))
    unset = await chain.admit(request_for("CREATE", PERSISTENTVOLUMECLAIMS, _claim()))
    assert "storageClassName" not in unset["spec"]
    for name, created in (
        ("a", "2026-01-01T00:00:00Z"),
        ("c", "2026-01-02T00:00:00Z"),
        ("b", "2026-01-02T00:00:00Z"),
    ):
        objects.put(STORAGECLASSES, _class(name, created))
    given = await chain.admit(request_for("CREATE", PERSISTENTVOLUMECLAIMS, _claim()))
    assert given["spec"]["storageClassName"] == "b"
    for kept in ("", "a"):
        request = request_for("CREATE", PERSISTENTVOLUMECLAIMS, _claim(storageClassName=kept))
        assert (await chain.admit(request))["spec"]["storageClassName"] == kept


async def test_an_ingress_without_a_class_gets_the_default(request_for, objects):
    chain = AdmissionChain((DefaultIngressClass(objects),))
    mark = "ingressclass.kubernetes.io/is-default-class"
    objects.put(INGRESSCLASSES, _class("haproxy", "2026-01-01T00:00:00Z", mark))
    ingress = {"metadata": {"name": "i", "namespace": "default"}, "spec": {}}
    assert (await chain.admit(request_for("CREATE", INGRESSES, ingress)))["spec"] == {
        "ingressClassName": "haproxy"
    }
    old = {
        **ingress,
        "metadata": {**ingress["metadata"], "annotations": {"kubernetes.io/ingress.class": "x"}},
    }
    assert (await chain.admit(request_for("CREATE", INGRESSES, old)))["spec"] == {}
