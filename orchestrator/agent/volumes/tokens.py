"""Bound service account tokens of the pods' volumes: requested once, kept, and renewed before they end.

Renewed when 80 % of a token's life or 24 h have passed; while that fails, the old one is given out as long as it
lives. Owner of the tokens. Called by `Sources`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from orchestrator.agent import podspec
from orchestrator.api.errors import ApiError
from orchestrator.api.item import Object
from orchestrator.base.clock import Clock

RequestToken = Callable[[Object, Object], Awaitable[Object]]
"""(pod, `serviceAccountToken` source) → the TokenRequest that the API answered."""

REFRESH_SHARE = 0.8
REFRESH_AFTER_S = 24 * 3600.0
LIFE_S = 3600


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    renew_s: float
    ends_s: float


@dataclass(slots=True)
class Tokens:
    """Tokens by pod, audience and asked-for life."""

    request: RequestToken
    clock: Clock
    _kept: dict[tuple[str, str, int], _Token] = field(default_factory=dict)

    async def get(self, pod: Object, source: Object) -> str:
        """A token that lives for a while yet. Raises `ApiError` when there is none and none to be had."""
        life_s = int(source.get("expirationSeconds") or LIFE_S)
        key = (pod["metadata"]["uid"], source.get("audience") or "", life_s)
        kept, now_s = self._kept.get(key), self.clock.now_s()
        if kept is not None and now_s < kept.renew_s:
            return kept.text
        try:
            status = (await self.request(pod, source))["status"]
        except (ApiError, OSError, TimeoutError):
            if kept is None or now_s >= kept.ends_s:
                raise
            return kept.text
        ends_s = podspec.seconds(status["expirationTimestamp"])
        renew_s = now_s + min((ends_s - now_s) * REFRESH_SHARE, REFRESH_AFTER_S)
        self._kept[key] = _Token(status["token"], renew_s, ends_s)
        return str(status["token"])

    def forget(self, pod_uid: str) -> None:
        """The pod is gone."""
        for key in [key for key in self._kept if key[0] == pod_uid]:
            del self._kept[key]
