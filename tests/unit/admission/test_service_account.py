"""Every pod gets an account that exists, and its token where clients look for it."""

import asyncio
import random

import pytest

from orchestrator.admission.chain import AdmissionChain
from orchestrator.admission.service_account import MOUNT_PATH, ServiceAccount
from orchestrator.api.errors import Forbidden
from orchestrator.api.resources import PODS, SERVICEACCOUNTS
from orchestrator.base.clock import VirtualClock


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def chain(objects, clock):
    return AdmissionChain((ServiceAccount(objects, clock, random.Random(1)),))


@pytest.fixture
def account(objects):
    def put(name="default", **fields):
        objects.put(SERVICEACCOUNTS, {"metadata": {"name": name, "namespace": "default"}, **fields})

    return put


def _pod(**spec):
    containers = [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}]
    return {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": containers, **spec}}


async def test_the_token_is_mounted_where_nothing_is(chain, account, request_for):
    account()
    pod = _pod(initContainers=[{"name": "i"}], volumes=[{"name": "own", "emptyDir": {}}])
    spec = (await chain.admit(request_for("CREATE", PODS, pod)))["spec"]
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    own, volume = spec["volumes"]
    assert own == {"name": "own", "emptyDir": {}}
    token, certificate, namespace = volume["projected"]["sources"]
    assert token == {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}
    assert certificate["configMap"]["name"] == "kube-root-ca.crt"
    assert namespace["downwardAPI"]["items"][0]["fieldRef"]["fieldPath"] == "metadata.namespace"
    mount = {"name": volume["name"], "readOnly": True, "mountPath": MOUNT_PATH}
    assert spec["initContainers"][0]["volumeMounts"] == [mount]
    assert spec["containers"][0]["volumeMounts"] == [mount]
    assert spec["containers"][1] == pod["spec"]["containers"][1]
    assert "volumeMounts" not in pod["spec"]["containers"][0], "the request's object was changed"


@pytest.mark.parametrize(
    ("of_pod", "of_account", "mounted"),
    [(None, None, True), (None, False, False), (True, False, True), (False, True, False)],
)
async def test_pod_then_account_decide_whether_it_is_mounted(
    chain, account, request_for, of_pod, of_account, mounted
):
    account(**({} if of_account is None else {"automountServiceAccountToken": of_account}))
    pod = _pod(**({} if of_pod is None else {"automountServiceAccountToken": of_pod}))
    spec = (await chain.admit(request_for("CREATE", PODS, pod)))["spec"]
    assert ("volumes" in spec) is mounted


async def test_image_pull_secrets_are_inherited_unless_given(chain, account, request_for):
    account("builder", imagePullSecrets=[{"name": "registry"}])
    inherited = await chain.admit(request_for("CREATE", PODS, _pod(serviceAccountName="builder")))
    assert inherited["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    own = _pod(serviceAccountName="builder", imagePullSecrets=[{"name": "mine"}])
    assert (await chain.admit(request_for("CREATE", PODS, own)))["spec"]["imagePullSecrets"] == [
        {"name": "mine"}
    ]


async def test_an_absent_account_is_refused(chain, request_for):
    text = 'error looking up service account default/x: serviceaccount "x" not found'
    with pytest.raises(Forbidden, match=text):
        await chain.admit(request_for("CREATE", PODS, _pod(serviceAccountName="x")))


async def test_the_default_account_of_a_new_namespace_is_waited_for(chain, account, clock, request_for):
    admitted = asyncio.ensure_future(chain.admit(request_for("CREATE", PODS, _pod())))
    await clock.advance(0.3)
    account()
    await clock.advance(0.3)
    assert (await admitted)["spec"]["serviceAccountName"] == "default"
    refused = asyncio.ensure_future(
        chain.admit(request_for("CREATE", PODS, {**_pod(), "metadata": {"name": "p", "namespace": "new"}}))
    )
    await clock.advance(3)
    with pytest.raises(Forbidden, match="new/default"):
        await refused


async def test_mirror_pods_have_no_account(chain, request_for):
    mirror = {"name": "p", "annotations": {"kubernetes.io/config.mirror": "x"}}
    pod = {**_pod(), "metadata": mirror}
    assert await chain.admit(request_for("CREATE", PODS, pod)) is pod
    with pytest.raises(Forbidden, match="mirror pod may not reference"):
        named = {**_pod(serviceAccountName="x"), "metadata": mirror}
        await chain.admit(request_for("CREATE", PODS, named))
