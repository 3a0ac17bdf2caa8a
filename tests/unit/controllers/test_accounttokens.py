from base64 import b64decode

import pytest

from orchestrator.api.resources import SECRETS, SERVICEACCOUNTS
from orchestrator.controllers.accounttokens import NAME, TYPE, UID, AccountTokenController


def issue(namespace: str, name: str, uid: str, secret: str) -> str:
    return f"{namespace}/{name} {uid} {secret}"


@pytest.fixture
async def filling(cluster):
    parts = (cluster.client, cluster.clock, cluster.recorder)
    await cluster.start(AccountTokenController(*parts, "PEM", issue))
    return cluster


async def account(cluster, name: str = "robot") -> str:
    made = await cluster.create(SERVICEACCOUNTS, {"metadata": {"name": name}})
    return made["metadata"]["uid"]


async def secret(cluster, of: str = "robot", type: str = TYPE, **more) -> None:
    annotations = {NAME: of, **more.pop("annotations", {})}
    await cluster.create(
        SECRETS, {"metadata": {"name": "kept", "annotations": annotations}, "type": type, **more}
    )
    await cluster.settle()


async def held(cluster) -> dict[str, str]:
    found = await cluster.get(SECRETS, "kept")
    return {key: b64decode(value).decode() for key, value in (found.get("data") or {}).items()}


async def test_a_secret_gets_the_token_of_its_account_and_keeps_it(filling):
    uid = await account(filling)
    await secret(filling)
    token = f"default/robot {uid} kept"
    assert await held(filling) == {"token": token, "ca.crt": "PEM", "namespace": "default"}
    assert (await filling.get(SECRETS, "kept"))["metadata"]["annotations"][UID] == uid
    assert await filling.is_at_rest()
    await filling.patch(SECRETS, "kept", {"data": {"ca.crt": "", "token": "bWluZQ=="}})
    await filling.settle()
    assert await held(filling) == {"token": "mine", "ca.crt": "PEM", "namespace": "default"}


async def test_a_secret_goes_with_its_account(filling):
    await account(filling)
    await secret(filling)
    await filling.client.delete(SERVICEACCOUNTS, "robot", "default")
    await account(filling)
    await filling.settle()
    assert await filling.list(SECRETS) == []


@pytest.mark.parametrize(("of", "uid"), [("nobody", {}), ("robot", {UID: "of one before"})])
async def test_a_secret_of_no_account_goes(filling, of, uid):
    await account(filling)
    await secret(filling, of, annotations=uid)
    assert await filling.list(SECRETS) == []


@pytest.mark.parametrize("more", [{"type": "Opaque"}, {"immutable": True}])
async def test_other_secrets_and_those_that_may_not_change_are_left_alone(filling, more):
    await account(filling)
    await secret(filling, **more)
    assert await held(filling) == {}
    assert await filling.is_at_rest()
