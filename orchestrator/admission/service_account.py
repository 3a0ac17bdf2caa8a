"""ServiceAccount: every pod runs as an account that exists, and finds its token where clients look for it.

1. A mirror pod has no account.
2. Without a name it is `default`; the account must exist. The default one of a new namespace is waited for.
3. Unless pod or account says otherwise, each container without a mount at `MOUNT_PATH` gets one, of a
   projected volume with token, CA bundle and namespace.
4. A pod without image pull secrets gets those of its account.
"""

import random
from typing import Any

from orchestrator.admission.chain import AdmissionRequest, Operation, Reader
from orchestrator.admission.refusal import forbidden
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import SERVICEACCOUNTS, Resource
from orchestrator.base.clock import Clock

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
MIRROR = "kubernetes.io/config.mirror"
VOLUME_PREFIX = "kube-api-access-"
TOKEN_LIFE_S = 3607
"""The odd seconds let the token issuer tell these from tokens that somebody asked for with an hour."""
DEFAULT_ATTEMPTS = 11
DEFAULT_WAIT_S = 0.1
"""The default account is looked for every 0.1 to 0.2 s: its controller may be just about to create it."""
_RANDOM_CHARS = "bcdfghjklmnpqrstvwxz2456789"


class ServiceAccount:
    """See the module."""

    def __init__(self, reader: Reader, clock: Clock, rng: random.Random) -> None:
        self._reader = reader
        self._clock = clock
        self._rng = rng

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        return operation == "CREATE" and resource.plural == "pods" and not resource.group and not subresource

    async def mutate(self, request: AdmissionRequest) -> Object | None:
        pod = request.object or {}
        spec: Object = pod.get("spec") or {}
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or ""
        if MIRROR in (pod["metadata"].get("annotations") or {}):
            if name:
                raise forbidden(request, "a mirror pod may not reference service accounts")
            return None
        name = name or "default"
        account = (await self._account(request, name)).object
        changed = {**spec, "serviceAccountName": name, "serviceAccount": name}
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            changed["imagePullSecrets"] = account["imagePullSecrets"]
        if _automounts(spec, account):
            changed = self._mounted(changed)
        return {**pod, "spec": changed}

    async def validate(self, request: AdmissionRequest) -> None:
        return

    async def _account(self, request: AdmissionRequest, name: str) -> Item:
        for attempt in range(DEFAULT_ATTEMPTS if name == "default" else 1):
            if attempt:
                await self._clock.sleep(DEFAULT_WAIT_S * (1 + self._rng.random()))
            account = await self._reader.find(SERVICEACCOUNTS, request.namespace, name)
            if account is not None:
                return account
        raise forbidden(
            request,
            f'error looking up service account {request.namespace}/{name}: serviceaccount "{name}" not found',
        )

    def _mounted(self, spec: Object) -> Object:
        """`spec` with the token mounted in every container that has nothing at that path."""
        volumes: list[Object] = spec.get("volumes") or []
        present = next((v["name"] for v in volumes if v.get("name", "").startswith(VOLUME_PREFIX)), "")
        volume = present or self._volume_name(volumes)
        changed = dict(spec)
        for field in ("initContainers", "containers"):
            if spec.get(field):
                changed[field] = [_with_mount(container, volume) for container in spec[field]]
        if not present and changed != spec:
            changed["volumes"] = [*volumes, _token_volume(volume)]
        return changed

    def _volume_name(self, volumes: list[Object]) -> str:
        taken = {volume.get("name") for volume in volumes}
        while (name := VOLUME_PREFIX + "".join(self._rng.choices(_RANDOM_CHARS, k=5))) in taken:
            pass
        return name


def _automounts(spec: Object, account: Object) -> bool:
    for holder in (spec, account):
        wanted: Any = holder.get("automountServiceAccountToken")
        if wanted is not None:
            return bool(wanted)
    return True


def _with_mount(container: Object, volume: str) -> Object:
    mounts: list[Object] = container.get("volumeMounts") or []
    if any(mount.get("mountPath") == MOUNT_PATH for mount in mounts):
        return container
    mount = {"name": volume, "readOnly": True, "mountPath": MOUNT_PATH}
    return {**container, "volumeMounts": [*mounts, mount]}


def _token_volume(name: str) -> Object:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    certificate = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_LIFE_S, "path": "token"}},
        {"configMap": certificate},
        {"downwardAPI": {"items": [namespace]}},
    ]
    return {"name": name, "projected": {"sources": sources, "defaultMode": 420}}
