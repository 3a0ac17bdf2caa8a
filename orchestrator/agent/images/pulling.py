"""Images: pull policies, one pull per image at a time, back-off with the reasons that users know.

`ensure` answers at once with what is known and lets a pull run in its own task; `on_change` wakes the pods that
wait for it. Owner of the pulls and their back-off.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.base.backoff import Backoff
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime import references
from orchestrator.runtime.interface import Image, RegistryAuth, Runtime, RuntimeFailure

BACKOFF_INITIAL_S = 10.0
BACKOFF_MAX_S = 300.0
PULLS_MAX = 5
SHOW_FAILURE_S = 2.0
"""How long ErrImagePull shows before ImagePullBackOff."""
PULL_TIMEOUT_S = 1800.0
ERR_IMAGE_PULL = "ErrImagePull"
_PULL_REASONS = (ERR_IMAGE_PULL, "InvalidImageName", "RegistryUnavailable", "SignatureValidationFailed")
"""What a failed pull may be called; any other reason of the engine's is an ErrImagePull."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The image is here."""

    image: Image
    pulled_s: float = -1.0
    """How long the pull took; negative when it was already here."""


@dataclass(frozen=True, slots=True)
class Pulling:
    """Somebody fetches it; `after` is how the try before ended, which goes on to be shown meanwhile."""

    after: "Failed | None" = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Not to be had for now: what the container's status shows, and when the next try is due."""

    reason: str
    message: str
    retry_s: float


ImageState = Ready | Pulling | Failed


@dataclass(slots=True)
class _Pull:
    task: asyncio.Task[None] | None = None
    after: Failed | None = None
    failure: Failed | None = None
    done: Ready | None = None
    waiters: set[str] = field(default_factory=set)


def default_policy(reference: str) -> str:
    """`Always` for `:latest` and untagged references, else `IfNotPresent`."""
    name = reference.rsplit("/", 1)[-1]
    if "@" in name:
        return "IfNotPresent"
    return "Always" if ":" not in name or name.endswith(":latest") else "IfNotPresent"


class Images:
    """The images of one engine."""

    def __init__(
        self, runtime: Runtime, clock: Clock, supervisor: Supervisor, on_change: Callable[[str], None]
    ) -> None:
        """`on_change(pod_uid)` is called when a pull that this pod waits for has ended."""
        self._runtime = runtime
        self._clock = clock
        self._supervisor = supervisor
        self._on_change = on_change
        self._pulls: dict[str, _Pull] = {}
        self._backoff = Backoff(BACKOFF_INITIAL_S, BACKOFF_MAX_S)
        self._slots = asyncio.Semaphore(PULLS_MAX)

    async def ensure(
        self, reference: str, policy: str, pod_uid: str, auths: Sequence[RegistryAuth] = ()
    ) -> ImageState:
        """The image's state for one start of a container; starts or retries a pull where one is needed."""
        policy = policy or default_policy(reference)
        try:
            references.parse(reference)
        except RuntimeFailure as error:
            text = f'Failed to apply default image tag "{reference}": {error}'
            return Failed("InvalidImageName", text, self._clock.now_s() + BACKOFF_MAX_S)
        pull = self._pulls.get(reference)
        if pull is not None and pull.task is not None:
            pull.waiters.add(pod_uid)
            return Pulling(pull.after)
        if pull is not None and pod_uid in pull.waiters:
            return self._tell(reference, pull, pod_uid)
        if policy != "Always":
            image = await self._runtime.image(reference)
            if image is not None:
                self._pulls.pop(reference, None)
                self._backoff.reset(reference)
                return Ready(image)
            pull = self._pulls.get(reference)
            if policy == "Never":
                text = f'Container image "{reference}" is not present with pull policy of Never'
                return Failed("ErrImageNeverPull", text, self._clock.now_s() + BACKOFF_INITIAL_S)
        if pull is not None and pull.failure is not None and self._clock.now_s() < pull.failure.retry_s:
            return self._backing_off(reference, pull.failure)
        return self._begin(reference, pod_uid, auths)

    def _backing_off(self, reference: str, failure: Failed) -> Failed:
        text = f'Back-off pulling image "{reference}": {failure.reason}: {failure.message}'
        return Failed("ImagePullBackOff", text, failure.retry_s)

    def _tell(self, reference: str, pull: _Pull, pod_uid: str) -> ImageState:
        """What came of the pull, once to each pod that waited for it; the failure itself before the back-off."""
        pull.waiters.discard(pod_uid)
        if pull.done is not None:
            if not pull.waiters:
                del self._pulls[reference]
            return pull.done
        assert pull.failure is not None
        return replace(pull.failure, retry_s=self._clock.now_s() + SHOW_FAILURE_S)

    def _begin(self, reference: str, pod_uid: str, auths: Sequence[RegistryAuth]) -> ImageState:
        before = self._pulls.get(reference)
        if before is not None and before.task is not None:
            before.waiters.add(pod_uid)
            return Pulling(before.after)
        after = self._backing_off(reference, before.failure) if before and before.failure else None
        pull = self._pulls[reference] = _Pull(waiters={pod_uid}, after=after)
        pull.task = self._supervisor.spawn(f"pull {reference}", self._pull(reference, pull, tuple(auths)))
        return Pulling(after)

    async def _pull(self, reference: str, pull: _Pull, auths: Sequence[RegistryAuth]) -> None:
        started_s = self._clock.monotonic_s()
        try:
            async with self._slots, asyncio.timeout(PULL_TIMEOUT_S):
                image = await self._fetch(reference, auths)
            pull.done = Ready(image, self._clock.monotonic_s() - started_s)
            self._backoff.reset(reference)
        except (RuntimeFailure, TimeoutError) as error:
            reason = error.reason if isinstance(error, RuntimeFailure) else ERR_IMAGE_PULL
            reason = reason if reason in _PULL_REASONS else ERR_IMAGE_PULL
            text = str(error) or f'pulling image "{reference}" took too long'
            retry_s = self._clock.now_s() + self._backoff.next_s(reference)
            pull.failure = Failed(reason, text, retry_s)
        finally:
            pull.task = None
            if pull.done is None and pull.failure is None:
                self._pulls.pop(reference, None)
            for pod_uid in pull.waiters:
                self._on_change(pod_uid)

    async def _fetch(self, reference: str, auths: Sequence[RegistryAuth]) -> Image:
        last: RuntimeFailure | None = None
        for auth in (*auths, None):
            try:
                return await self._runtime.pull(reference, auth)
            except RuntimeFailure as error:
                last = last or error
        assert last is not None
        raise last
