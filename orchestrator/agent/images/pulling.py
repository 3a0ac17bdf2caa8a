"""Images: pull policies, one pull per image and login at a time, back-off with the reasons that users know.

`ensure` answers at once with what is known and lets a pull run in its own task; `on_change` wakes the pods that
wait for it. Pods with different credentials never share a pull: one that may not have the image holds up nobody
who may. Owner of the pulls and their back-off.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.agent.images.access import PullRecords
from orchestrator.agent.images.keyring import Credential
from orchestrator.base.backoff import Backoff
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime import references
from orchestrator.runtime.interface import Image, Runtime, RuntimeFailure, RuntimeUnavailable

BACKOFF_INITIAL_S = 10.0
BACKOFF_MAX_S = 300.0
PULLS_MAX = 5
PULLS_KEPT_S = 2 * BACKOFF_MAX_S
"""How long a failure is remembered after its next try was due: nobody asks for that image any more."""
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
    waited_s: float = 0.0
    """How long it waited for other pulls before that."""


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
_Key = tuple[str, tuple[Credential, ...]]
NodeLogins = Callable[[str], Awaitable[Sequence[Credential]]]
"""The node's own credentials for an image."""


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
        self,
        runtime: Runtime,
        clock: Clock,
        supervisor: Supervisor,
        on_change: Callable[[str], None],
        *,
        records: PullRecords | None = None,
        node_logins: NodeLogins | None = None,
        pulls_max: int = PULLS_MAX,
    ) -> None:
        """`on_change(pod_uid)` is called when a pull that this pod waits for has ended. `pulls_max` is the number of
        pulls at a time; 0 sets no bound."""
        self._runtime = runtime
        self._clock = clock
        self._supervisor = supervisor
        self._on_change = on_change
        self.records = records or PullRecords()
        self._node_logins = node_logins
        self._pulls: dict[_Key, _Pull] = {}
        self._backoff = Backoff(BACKOFF_INITIAL_S, BACKOFF_MAX_S)
        self._slots = asyncio.Semaphore(pulls_max or 1_000_000)
        self.used_s: dict[str, float] = {}
        """When an image was last handed out to a pod, by id; whoever collects garbage reads and prunes it."""

    async def ensure(
        self, reference: str, policy: str, pod_uid: str, credentials: Sequence[Credential] = ()
    ) -> ImageState:
        """The image's state for one start of a container; starts or retries a pull where one is needed."""
        policy = policy or default_policy(reference)
        try:
            references.parse(reference)
        except RuntimeFailure as error:
            text = f'Failed to apply default image tag "{reference}": {error}'
            return Failed("InvalidImageName", text, self._clock.now_s() + BACKOFF_MAX_S)
        shown = tuple(credentials)
        try:
            if self._node_logins is not None:
                shown = (*shown, *await self._node_logins(reference))
        except RuntimeFailure as error:
            return Failed(ERR_IMAGE_PULL, str(error), self._clock.now_s() + BACKOFF_INITIAL_S)
        key = (reference, shown)
        pull = self._pulls.get(key)
        if pull is not None and pull.task is not None:
            pull.waiters.add(pod_uid)
            return Pulling(pull.after)
        if pull is not None and pod_uid in pull.waiters:
            return self._tell(key, pull, pod_uid)
        if policy != "Always" and (known := await self._present(key, policy)) is not None:
            return known
        pull = self._pulls.get(key)
        if pull is not None and pull.failure is not None and self._clock.now_s() < pull.failure.retry_s:
            return self._backing_off(reference, pull.failure)
        return self._begin(key, pod_uid)

    async def _present(self, key: _Key, policy: str) -> ImageState | None:
        """What is to be said without a pull; None when one is needed."""
        reference, shown = key
        try:
            image = await self._runtime.image(reference)
        except RuntimeUnavailable:
            raise
        except RuntimeFailure as error:
            text = f'Failed to inspect image "{reference}": {error}'
            return Failed("ImageInspectError", text, self._clock.now_s() + BACKOFF_INITIAL_S)
        allowed = image is not None and self.records.may_use(reference, image.id, shown)
        if image is not None and allowed:
            self._pulls.pop(key, None)
            self._backoff.reset(_name(key))
            self.used_s[image.id] = self._clock.now_s()
            return Ready(image)
        if policy != "Never":
            return None
        text = f'Container image "{reference}" is not present with pull policy of Never'
        if image is not None:
            text = (
                f'Container image "{reference}" is present with pull policy of Never but does not have the '
            )
            text += "proper credentials"
        return Failed("ErrImageNeverPull", text, self._clock.now_s() + BACKOFF_INITIAL_S)

    def _backing_off(self, reference: str, failure: Failed) -> Failed:
        text = f'Back-off pulling image "{reference}": {failure.reason}: {failure.message}'
        return Failed("ImagePullBackOff", text, failure.retry_s)

    def _tell(self, key: _Key, pull: _Pull, pod_uid: str) -> ImageState:
        """What came of the pull, once to each pod that waited for it; the failure itself before the back-off."""
        pull.waiters.discard(pod_uid)
        if pull.done is not None:
            self.used_s[pull.done.image.id] = self._clock.now_s()
            if not pull.waiters:
                del self._pulls[key]
            return pull.done
        assert pull.failure is not None
        return replace(pull.failure, retry_s=self._clock.now_s() + SHOW_FAILURE_S)

    def _begin(self, key: _Key, pod_uid: str) -> ImageState:
        reference = key[0]
        before = self._pulls.get(key)
        if before is not None and before.task is not None:
            before.waiters.add(pod_uid)
            return Pulling(before.after)
        self._prune()
        after = self._backing_off(reference, before.failure) if before and before.failure else None
        pull = self._pulls[key] = _Pull(waiters={pod_uid}, after=after)
        pull.task = self._supervisor.spawn(f"pull {reference}", self._pull(key, pull))
        return Pulling(after)

    def _prune(self) -> None:
        """Forget what nobody asks for any more."""
        now_s = self._clock.now_s()
        for key, pull in list(self._pulls.items()):
            if pull.failure is not None and now_s > pull.failure.retry_s + PULLS_KEPT_S:
                del self._pulls[key]
                self._backoff.reset(_name(key))

    async def _pull(self, key: _Key, pull: _Pull) -> None:
        reference, credentials = key
        asked_s = self._clock.monotonic_s()
        try:
            async with self._slots:
                began_s = self._clock.monotonic_s()
                async with asyncio.timeout(PULL_TIMEOUT_S):
                    image = await self._fetch(reference, credentials)
            pull.done = Ready(image, self._clock.monotonic_s() - began_s, began_s - asked_s)
            self._backoff.reset(_name(key))
        except (RuntimeFailure, TimeoutError) as error:
            reason = error.reason if isinstance(error, RuntimeFailure) else ERR_IMAGE_PULL
            reason = reason if reason in _PULL_REASONS else ERR_IMAGE_PULL
            text = str(error) or f'pulling image "{reference}" took too long'
            retry_s = self._clock.now_s() + self._backoff.next_s(_name(key))
            pull.failure = Failed(reason, text, retry_s)
        finally:
            pull.task = None
            if pull.done is None and pull.failure is None:
                self._pulls.pop(key, None)
            for pod_uid in pull.waiters:
                self._on_change(pod_uid)

    async def _fetch(self, reference: str, credentials: Sequence[Credential]) -> Image:
        """With each login in turn; without one only where there is none. Keeps whom the registry let in."""
        last: RuntimeFailure | None = None
        for used in credentials or (None,):
            try:
                image = await self._runtime.pull(reference, used.auth if used else None)
            except RuntimeFailure as error:
                last = last or error
            else:
                await self.records.pulled(reference, image.id, used)
                return image
        assert last is not None
        raise last


def _name(key: _Key) -> str:
    """A key of the back-off."""
    return f"{key[0]} {hash(key[1])}"
