"""Service-account tokens: good ones name their account; every other kind is refused."""

from base64 import b64encode
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.api.access import ANONYMOUS, Credentials
from orchestrator.api.errors import NotFound, Unauthorized
from orchestrator.api.item import Item, encode
from orchestrator.api.resources import NODES, PODS, SECRETS, SERVICEACCOUNTS, Resource
from orchestrator.auth.authenticator import Authenticator
from orchestrator.auth.tokens import ISSUER, BoundObject, ServiceAccountTokens, Token
from orchestrator.base.clock import VirtualClock
from orchestrator.pki.authority import Authority, CertificateSpec


def new_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


KEY = new_key()


class Cluster:
    """Uids by (resource, namespace, name)."""

    def __init__(self) -> None:
        self.uids = {(SERVICEACCOUNTS, "a", "robot"): "u1", (PODS, "a", "web"): "p1"}
        self.kept: dict[str, str] = {}

    async def get(self, resource: Resource, namespace: str, name: str) -> Item:
        uid = self.uids.get((resource, namespace, name))
        if uid is None:
            raise NotFound(f"{resource.plural} {name} not found")
        data = {"token": b64encode(self.kept[name].encode()).decode()} if name in self.kept else {}
        metadata = {"name": name, "namespace": namespace, "uid": uid}
        return Item(encode({"metadata": metadata, "data": data}), 1)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def tokens(cluster: Cluster, clock: VirtualClock) -> ServiceAccountTokens:
    return ServiceAccountTokens(KEY, cluster, clock)


def issue(tokens: ServiceAccountTokens, **more: Any) -> Token:
    return tokens.issue("a", "robot", "u1", bound=BoundObject("Pod", "web", "p1"), node=("n1", "x"), **more)


async def refused(tokens: ServiceAccountTokens, text: str, audiences: tuple[str, ...] = ()) -> bool:
    try:
        await tokens.identify(text, audiences)
    except Unauthorized:
        return True
    return False


async def test_a_token_names_its_account_pod_and_node(tokens: ServiceAccountTokens) -> None:
    identity, audiences = await tokens.identify(issue(tokens).text)
    assert identity.name == "system:serviceaccount:a:robot"
    assert identity.groups == ("system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated")
    assert identity.uid == "u1"
    assert identity.extra["authentication.kubernetes.io/pod-name"] == ("web",)
    assert identity.extra["authentication.kubernetes.io/node-name"] == ("n1",)
    assert audiences == (ISSUER,)


async def test_a_token_ends_when_it_says(tokens: ServiceAccountTokens, clock: VirtualClock) -> None:
    token = issue(tokens, life_s=600)
    assert not await refused(tokens, token.text)
    await clock.advance(600)
    assert await refused(tokens, token.text)


@pytest.mark.parametrize(("asked_s", "given_s"), [(1, 600), (3600, 3600), (10**10, 365 * 86400)])
def test_a_life_is_neither_too_short_nor_too_long(
    tokens: ServiceAccountTokens, clock: VirtualClock, asked_s: int, given_s: int
) -> None:
    assert issue(tokens, life_s=asked_s).expires_s - int(clock.now_s()) == given_s


async def test_a_token_for_others_is_not_for_us(tokens: ServiceAccountTokens) -> None:
    token = issue(tokens, audiences=("vault",))
    assert await refused(tokens, token.text)
    assert (await tokens.identify(token.text, ("vault", "other")))[1] == ("vault",)


@pytest.mark.parametrize("gone", [(SERVICEACCOUNTS, "a", "robot"), (PODS, "a", "web")])
@pytest.mark.parametrize("replaced", [True, False])
async def test_a_token_ends_with_what_it_is_bound_to(
    tokens: ServiceAccountTokens, cluster: Cluster, gone: tuple[Resource, str, str], replaced: bool
) -> None:
    token = issue(tokens)
    assert not await refused(tokens, token.text)
    if replaced:
        cluster.uids[gone] = "another"
    else:
        del cluster.uids[gone]
    assert await refused(tokens, token.text)


async def test_a_token_of_a_node_ends_with_the_node(tokens: ServiceAccountTokens, cluster: Cluster) -> None:
    text = tokens.issue("a", "robot", "u1", bound=BoundObject("Node", "n1", "x")).text
    cluster.uids[NODES, "", "n1"] = "x"
    assert not await refused(tokens, text)
    del cluster.uids[NODES, "", "n1"]
    assert await refused(tokens, text)


async def test_a_lasting_token_is_good_while_its_secret_and_account_have_it(
    tokens: ServiceAccountTokens, cluster: Cluster, clock: VirtualClock
) -> None:
    text = tokens.issue_lasting("a", "robot", "u1", "kept")
    assert await refused(tokens, text)
    cluster.uids[SECRETS, "a", "kept"] = "s1"
    assert await refused(tokens, text)
    cluster.kept["kept"] = text
    await clock.advance(10 * 365 * 86400)
    identity, audiences = await tokens.identify(text)
    assert (identity.name, identity.uid) == ("system:serviceaccount:a:robot", "u1")
    assert (identity.extra, audiences) == ({}, (ISSUER,))
    assert await refused(tokens, text, ("vault",))
    cluster.kept["kept"] = issue(tokens).text
    assert await refused(tokens, text)
    cluster.kept["kept"] = text
    cluster.uids[SERVICEACCOUNTS, "a", "robot"] = "another"
    assert await refused(tokens, text)


async def test_a_lasting_token_of_another_subject_is_refused(
    tokens: ServiceAccountTokens, cluster: Cluster
) -> None:
    text = tokens.issue_lasting("a", "robot", "u1", "kept")
    claims = jwt.decode(text, options={"verify_signature": False})
    cluster.uids[SECRETS, "a", "kept"] = "s1"
    for changed in ({**claims, "sub": "system:serviceaccount:b:robot"}, {**claims, "iss": ISSUER}):
        cluster.kept["kept"] = jwt.encode(changed, KEY, algorithm="ES256")
        assert await refused(tokens, cluster.kept["kept"])


async def test_another_key_signs_nothing_for_us(
    tokens: ServiceAccountTokens, cluster: Cluster, clock: VirtualClock
) -> None:
    assert await refused(tokens, issue(ServiceAccountTokens(new_key(), cluster, clock)).text)


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "Zm9v.Zm9v.Zm9v", "\x00" * 10, "ey" * 5000])
async def test_rubbish_is_refused(tokens: ServiceAccountTokens, text: str) -> None:
    assert await refused(tokens, text)


async def test_a_changed_or_unsigned_token_is_refused(tokens: ServiceAccountTokens) -> None:
    text = issue(tokens).text
    head, _, signature = text.split(".")
    claims = jwt.decode(text, options={"verify_signature": False})
    stranger = jwt.encode(
        {**claims, "sub": "system:serviceaccount:kube-system:admin"}, KEY, algorithm="ES256"
    )
    assert await refused(tokens, f"{head}.{stranger.split('.')[1]}.{signature}")
    assert await refused(tokens, jwt.encode(claims, "", algorithm="none"))
    assert await refused(tokens, jwt.encode(claims, "x" * 64, algorithm="HS256"))


@pytest.mark.parametrize("missing", ["exp", "nbf", "aud", "sub", "iss", "kubernetes.io"])
async def test_a_claim_that_lacks_refuses_the_token(tokens: ServiceAccountTokens, missing: str) -> None:
    claims = jwt.decode(issue(tokens).text, options={"verify_signature": False})
    del claims[missing]
    assert await refused(tokens, jwt.encode(claims, KEY, algorithm="ES256"))


def test_a_key_of_another_kind_is_refused(cluster: Cluster, clock: VirtualClock) -> None:
    with pytest.raises(ValueError):
        ServiceAccountTokens(b"no key", cluster, clock)


async def test_the_certificate_counts_before_the_token(
    tokens: ServiceAccountTokens, tmp_path, clock: VirtualClock
) -> None:  # type: ignore[no-untyped-def]
    pair, _ = Authority(tmp_path, clock).ensure("c", CertificateSpec("anna", ("devs", "ops")))
    der = _der(pair.certificate_pem())
    identity = await Authenticator(tokens).authenticate(Credentials(der, issue(tokens).text))
    assert (identity.name, set(identity.groups)) == ("anna", {"devs", "ops", "system:authenticated"})
    assert await Authenticator(tokens).authenticate(Credentials()) is ANONYMOUS
    with pytest.raises(Unauthorized):
        await Authenticator(tokens).authenticate(Credentials(b"no certificate"))
    with pytest.raises(Unauthorized):
        await Authenticator(tokens).authenticate(Credentials(bearer_token="no token"))


def _der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
