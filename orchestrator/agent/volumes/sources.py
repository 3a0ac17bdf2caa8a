"""What config map, secret, downward API and projected volumes contain: name → content, mode and owner.

Asks for objects and tokens through what it is given; the choice and naming of files is pure.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator.agent import podspec
from orchestrator.agent.containers.env import (
    ConfigError,
    Fetch,
    PodFacts,
    field_value,
    keyed_data,
    resource_value,
)
from orchestrator.agent.volumes.atomic import File, Files
from orchestrator.agent.volumes.ownership import group_of
from orchestrator.agent.volumes.tokens import Tokens
from orchestrator.api.item import Object
from orchestrator.api.resources import CONFIGMAPS, SECRETS, Resource
from orchestrator.base.clock import Clock

DEFAULT_MODE = 0o644
WRITTEN = ("configMap", "secret", "downwardAPI", "projected")
"""Kinds of volumes whose files are written here."""
_SECRETS = {"secret", "serviceAccountToken", "podCertificate"}
"""Sources of volumes that must not reach a disk, where a deleted file can be read for long."""
_UNSERVED = {"clusterTrustBundle": "ClusterTrustBundle", "podCertificate": "PodCertificateRequest"}


def is_secret(kind: str, source: Object) -> bool:
    """Whether a written volume of this kind holds what nobody may find on the node's disk."""
    parts = source.get("sources") or () if kind == "projected" else ()
    return kind == "secret" or any(_SECRETS & part.keys() for part in parts)


class Held(Protocol):
    """Where referenced objects come from: `References`."""

    async def get(self, pod_uid: str, resource: Resource, namespace: str, name: str) -> Object: ...

    def forget(self, pod_uid: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Part:
    """One source of one volume, and what it needs to be read."""

    pod: Object
    source: Object
    mode: int
    facts: PodFacts

    @property
    def shared_mode(self) -> int:
        """Of files that only the pod's own user may read, where it is known who that is."""
        owned = user_of(self.pod) is not None or group_of(self.pod) is not None
        return 0o600 if owned else self.mode


@dataclass(frozen=True, slots=True)
class Sources:
    """Contents of written volumes."""

    fetch: Fetch
    held: Held
    tokens: Tokens
    clock: Clock

    async def files(self, pod: Object, kind: str, source: Object, facts: PodFacts) -> Files:
        """The files of one volume. Raises `ConfigError` when a source that is not optional is missing."""
        mode = int(source.get("defaultMode", DEFAULT_MODE))
        if kind != "projected":
            return await self._readers()[kind](_Part(pod, source, mode, facts))
        merged: dict[str, File] = {}
        for part in source.get("sources") or ():
            for sort, inner in part.items():
                if inner is not None:
                    merged.update(await self._reader(sort)(_Part(pod, inner, mode, facts)))
        return merged

    def forget(self, pod_uid: str) -> None:
        """Drop what is kept for a pod that is gone."""
        self.tokens.forget(pod_uid)
        self.held.forget(pod_uid)

    def _readers(self) -> Mapping[str, Callable[[_Part], Awaitable[Files]]]:
        return {
            "configMap": lambda part: self._keys(CONFIGMAPS, "name", part),
            "secret": lambda part: self._keys(SECRETS, "secretName", part),
            "downwardAPI": _downward,
            "serviceAccountToken": self._token,
        }

    def _reader(self, sort: str) -> Callable[[_Part], Awaitable[Files]]:
        readers = self._readers()
        if sort in _UNSERVED:
            raise ConfigError(
                f"{_UNSERVED[sort]} projection is not supported: this cluster does not serve it"
            )
        if sort not in readers:
            raise ConfigError(f"projected volume source of unknown type: {sort}")
        return readers[sort]

    async def _keys(self, resource: Resource, name_field: str, part: _Part) -> Files:
        """A secret goes by `secretName` as a volume of its own and by `name` in a projection."""
        source, metadata = part.source, part.pod["metadata"]
        name_field = name_field if name_field in source else "name"

        async def fetch(resource: Resource, namespace: str, name: str) -> Object:
            return await self.held.get(metadata["uid"], resource, namespace, name)

        data = await keyed_data(resource, source, metadata["namespace"], fetch, field_of_name=name_field)
        called = "config" if resource is CONFIGMAPS else "secret"
        subject = "configmap " if resource is CONFIGMAPS else ""
        return select_keys(data, source, part.mode, f"{subject}references non-existent {called} key: {{}}")

    async def _token(self, part: _Part) -> Files:
        token = await self.tokens.get(part.pod, part.source)
        return {
            safe(part.source["path"]): File(token.encode(), part.shared_mode, user_of(part.pod)),
        }


def select_keys(data: Mapping[str, bytes], source: Object, mode: int, missing: str) -> Files:
    """All keys, or those that `items` choose under the paths they give. `missing` words what is not there."""
    items: list[dict[str, Any]] | None = source.get("items")
    if not items:
        return {safe(key): File(value, mode) for key, value in data.items()}
    chosen: dict[str, File] = {}
    for item in items:
        if item["key"] in data:
            chosen[safe(item["path"])] = File(data[item["key"]], int(item.get("mode", mode)))
        elif not source.get("optional"):
            raise ConfigError(missing.format(item["key"]))
    return chosen


async def _downward(part: _Part) -> Files:
    files: dict[str, File] = {}
    for item in part.source.get("items") or ():
        if "fieldRef" in item:
            text = field_value(part.pod, item["fieldRef"]["fieldPath"], part.facts)
        else:
            text = resource_value(part.pod, {}, item["resourceFieldRef"], part.facts)
        files[safe(item["path"])] = File(text.encode(), int(item.get("mode", part.mode)))
    return files


def user_of(pod: Object) -> int | None:
    """The user that every container of the pod runs as, if that is one and the spec says it."""
    of_pod = (pod["spec"].get("securityContext") or {}).get("runAsUser")
    users = {
        (container.get("securityContext") or {}).get("runAsUser", of_pod)
        for container in podspec.all_containers(pod)
    }
    user = users.pop() if len(users) == 1 else None
    return int(user) if user is not None else None


def safe(path: str) -> str:
    """`path` without detours. Raises `ConfigError` for one that leads out, or among the volume's own names."""
    if path.startswith("/") or ".." in path.split("/"):
        raise ConfigError(f"path {path!r} must be relative and must not contain '..'")
    if path.startswith(".."):
        raise ConfigError(f"path {path!r} must not start with '..'")
    return os.path.normpath(path)
