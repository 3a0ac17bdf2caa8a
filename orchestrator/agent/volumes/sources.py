"""What config map, secret, downward API and projected volumes contain: name → (content, mode).

Fetches through the client that it is given; the choice and naming of files is pure.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.agent import podspec
from orchestrator.agent.containers.env import (
    ConfigError,
    Fetch,
    PodFacts,
    field_value,
    keyed_data,
    resource_value,
)
from orchestrator.api.item import Object
from orchestrator.api.resources import CONFIGMAPS, SECRETS
from orchestrator.base.clock import Clock

Files = Mapping[str, tuple[bytes, int]]
RequestToken = Callable[[Object, Object], Awaitable[Object]]
"""(pod, `serviceAccountToken` source) → the TokenRequest that the API answered."""

DEFAULT_MODE = 0o644
REFRESH_SHARE = 0.8
REFRESH_AFTER_S = 24 * 3600.0


@dataclass(slots=True)
class Sources:
    """Contents of written volumes. Owner of the tokens that it requested."""

    fetch: Fetch
    request_token: RequestToken
    clock: Clock
    _tokens: dict[tuple[str, str, int], tuple[str, float]] = field(default_factory=dict)

    async def files(self, pod: Object, kind: str, source: Object, facts: PodFacts) -> Files:
        """The files of one volume. Raises `ConfigError` when a source that is not optional is missing."""
        mode = int(source.get("defaultMode", DEFAULT_MODE))
        if kind == "projected":
            merged: dict[str, tuple[bytes, int]] = {}
            for part in source.get("sources") or ():
                merged.update(await self._part(pod, part, mode, facts))
            return merged
        return await self._plain(pod, kind, source, mode, facts)

    def forget(self, pod_uid: str) -> None:
        """Drop the tokens of a pod that is gone."""
        for key in [key for key in self._tokens if key[0] == pod_uid]:
            del self._tokens[key]

    async def _part(
        self, pod: Object, part: Object, mode: int, facts: PodFacts
    ) -> dict[str, tuple[bytes, int]]:
        if "serviceAccountToken" in part:
            source = part["serviceAccountToken"]
            token = await self._token(pod, source)
            return {_safe(source["path"]): (token.encode(), mode)}
        kind = next((k for k in ("configMap", "secret", "downwardAPI") if k in part), None)
        if kind is None:
            raise ConfigError(f"projected volume source of unknown type: {sorted(part)}")
        return await self._plain(pod, kind, part[kind], mode, facts)

    async def _plain(
        self, pod: Object, kind: str, source: Object, mode: int, facts: PodFacts
    ) -> dict[str, tuple[bytes, int]]:
        if kind == "downwardAPI":
            return _downward(pod, source, mode, facts)
        resource = CONFIGMAPS if kind == "configMap" else SECRETS
        field_of_name = "secretName" if "secretName" in source else "name"
        namespace = pod["metadata"]["namespace"]
        data = await keyed_data(resource, source, namespace, self.fetch, field_of_name=field_of_name)
        return select_keys(data, source, mode, source.get(field_of_name, ""))

    async def _token(self, pod: Object, source: Object) -> str:
        life_s = int(source.get("expirationSeconds", 3600))
        key = (pod["metadata"]["uid"], source.get("audience", ""), life_s)
        token, renew_s = self._tokens.get(key, ("", 0.0))
        if not token or self.clock.now_s() >= renew_s:
            status = (await self.request_token(pod, source))["status"]
            token = status["token"]
            left_s = podspec.seconds(status["expirationTimestamp"]) - self.clock.now_s()
            renew_s = self.clock.now_s() + min(left_s * REFRESH_SHARE, REFRESH_AFTER_S)
            self._tokens[key] = (token, renew_s)
        return token


def select_keys(
    data: Mapping[str, bytes], source: Object, mode: int, name: str
) -> dict[str, tuple[bytes, int]]:
    """All keys, or those that `items` choose under the paths they give."""
    items: list[dict[str, Any]] | None = source.get("items")
    if not items:
        return {key: (value, mode) for key, value in data.items()}
    chosen: dict[str, tuple[bytes, int]] = {}
    for item in items:
        if item["key"] in data:
            chosen[_safe(item["path"])] = (data[item["key"]], int(item.get("mode", mode)))
        elif not source.get("optional"):
            raise ConfigError(f'references non-existent key: {item["key"]} in "{name}"')
    return chosen


def _downward(pod: Object, source: Object, mode: int, facts: PodFacts) -> dict[str, tuple[bytes, int]]:
    files: dict[str, tuple[bytes, int]] = {}
    for item in source.get("items") or ():
        if "fieldRef" in item:
            text = field_value(pod, item["fieldRef"]["fieldPath"], facts)
        else:
            text = resource_value(pod, {}, item["resourceFieldRef"], facts)
        files[_safe(item["path"])] = (text.encode(), int(item.get("mode", mode)))
    return files


def _safe(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ConfigError(f"path {path!r} must be relative and must not contain '..'")
    return path
