"""Carrying out what the plan asks for one pod: sandbox, containers, hooks, and the look at the engine.

One instance per pod worker; it owns the restart back-off of the pod's containers. Failures that concern one
container become a `Hold` (what its status shows, and when to try again); failures of the engine or the network
are raised.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from orchestrator.agent import hooks, podspec, translate
from orchestrator.agent.context import Context
from orchestrator.agent.env import ConfigError, container_env
from orchestrator.agent.images import Failed, Pulling, Ready
from orchestrator.agent.observed import Observed
from orchestrator.agent.plan import StopContainer, restarts
from orchestrator.agent.probes import Target
from orchestrator.agent.pullsecrets import pull_auths
from orchestrator.api.errors import ApiError
from orchestrator.api.item import Object
from orchestrator.runtime.interface import Container, RuntimeFailure, Sandbox

RESTART_INITIAL_S = 10.0
RESTART_MAX_S = 300.0
STABLE_AFTER_S = 600.0
"""A container that ran this long starts its back-off anew."""
CONFIG_RETRY_S = 5.0
KEPT_DEAD = 1
"""Dead incarnations kept per container beside the newest, for `logs --previous`."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a container does not start now. Infinity in `until_s` means until an image pull has ended."""

    until_s: float
    reason: str
    message: str


class Operations:
    """Operations of one pod."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._restart_s: dict[str, float] = {}
        self._told: set[str] = set()

    async def look(self, pod: Object, seen: Observed) -> None:
        """Bring `seen` up to date for everything that may still change."""
        runtime, uid = self._context.runtime, pod["metadata"]["uid"]
        known = {sandbox.id for sandbox in seen.sandboxes}
        if known:
            listed = [s for s in await runtime.list_sandboxes() if s.pod_uid == uid]
            seen.sandboxes = sorted(listed, key=lambda s: -s.attempt)
        for container in seen.all_containers():
            if container.state == "exited":
                continue
            fresh = await runtime.inspect_container(container.id)
            if fresh is None:
                seen.drop(container.id)
            else:
                seen.replace(fresh)

    async def create_sandbox(self, pod: Object, attempt: int, seen: Observed) -> tuple[Sandbox, str]:
        """A running sandbox with its network, and the pod's address."""
        context = self._context
        for old in seen.sandboxes:
            await context.network.detach(old.id)
            await context.runtime.stop_sandbox(old.id)
        spec = translate.sandbox_spec(pod, attempt)
        try:
            sandbox = await context.runtime.create_sandbox(spec)
            if spec.network == "host":
                return sandbox, context.facts.ip
            return sandbox, await self._attach(sandbox)
        except Exception as error:
            text = f"Failed to create pod sandbox: {error}"
            context.recorder.event(pod, "Warning", "FailedCreatePodSandBox", text)
            raise

    async def _attach(self, sandbox: Sandbox) -> str:
        try:
            return await self._context.network.attach(sandbox.id, sandbox.netns_path)
        except Exception:
            await self._context.runtime.remove_sandbox(sandbox.id)
            raise

    async def start_container(
        self, pod: Object, container: Object, attempt: int, sandbox_id: str, pod_ip: str, seen: Observed
    ) -> Container | Hold:
        """Create and start one incarnation, or say what holds it up."""
        context, name = self._context, container["name"]
        try:
            image = await self._image(pod, container)
            if isinstance(image, Hold):
                return image
            prepared = await self._prepare(pod, container, pod_ip, attempt, image)
            await self._clear(seen, name)
            spec = translate.container_spec(pod, container, sandbox_id, attempt, prepared)
            container_id = await context.runtime.create_container(spec)
            context.recorder.event(pod, "Normal", "Created", f"Container created: {name}")
        except (ConfigError, ApiError, OSError) as error:
            return self._held(pod, "CreateContainerConfigError", str(error))
        except RuntimeFailure as error:
            return self._held(pod, "CreateContainerError", str(error))
        return await self._run(pod, container, container_id, pod_ip, seen)

    async def _run(
        self, pod: Object, container: Object, container_id: str, pod_ip: str, seen: Observed
    ) -> Container | Hold:
        context, name = self._context, container["name"]
        self._count_start(name, seen.newest(name))
        try:
            await context.runtime.start_container(container_id)
        except RuntimeFailure as error:
            await context.runtime.remove_container(container_id)
            return self._held(pod, "RunContainerError", str(error))
        context.recorder.event(pod, "Normal", "Started", f"Container started: {name}")
        started = await context.runtime.inspect_container(container_id)
        if started is None:
            return self._held(pod, "RunContainerError", f"container {name} vanished after its start")
        hook = (container.get("lifecycle") or {}).get("postStart")
        if hook and started.state == "running":
            problem = await hooks.run(context.runtime, started, container, hook, pod_ip)
            if problem:
                text = f"PostStartHook failed: {problem}"
                context.recorder.event(pod, "Warning", "FailedPostStartHook", text)
                await context.runtime.stop_container(container_id, 2.0)
                started = await context.runtime.inspect_container(container_id) or started
        return started

    async def stop_container(self, pod: Object, seen: Observed, stop: StopContainer) -> None:
        """Stop one container of a pod that goes on; its hook runs first."""
        context = self._context
        context.recorder.event(pod, "Normal", "Killing", stop.why)
        spec = podspec.find_container(pod, stop.name) or {}
        grace_s = float(pod["spec"].get("terminationGracePeriodSeconds", 30))
        await context.prober.forget(stop.container_id)
        running = next((c for c in seen.running() if c.id == stop.container_id), None)
        hook = (spec.get("lifecycle") or {}).get("preStop")
        if hook and running is not None:
            began_s = context.clock.monotonic_s()
            await hooks.run(context.runtime, running, spec, hook, "", timeout_s=grace_s)
            grace_s = max(2.0, grace_s - (context.clock.monotonic_s() - began_s))
        await context.runtime.stop_container(stop.container_id, grace_s)

    def probe(self, pod: Object, seen: Observed, pod_ip: str) -> None:
        """Have every running container probed."""
        uid = pod["metadata"]["uid"]
        for container in seen.running():
            spec = podspec.find_container(pod, container.name)
            if spec is not None:
                self._context.prober.watch(Target(uid, pod_ip, container, spec))

    def restart_due_s(self, name: str, newest: Container | None) -> float:
        """When a container that has ended may start again; 0 when at once."""
        if newest is None or newest.state != "exited":
            return 0.0
        return newest.finished_s + self._restart_s.get(name, 0.0)

    def crash_hold(self, pod: Object, name: str, newest: Container | None, now_s: float) -> Hold | None:
        """CrashLoopBackOff while a restart is held back."""
        due_s = self.restart_due_s(name, newest)
        if newest is None or due_s <= now_s or not restarts(pod, newest):
            return None
        metadata = pod["metadata"]
        whole = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
        delay_s = self._restart_s.get(name, 0.0)
        text = f"back-off {delay_s:g}s restarting failed container={name} pod={whole}"
        if newest.id not in self._told:
            self._told.add(newest.id)
            event = f"Back-off restarting failed container {name} in pod {whole}"
            self._context.recorder.event(pod, "Warning", "BackOff", event)
        return Hold(due_s, "CrashLoopBackOff", text)

    def _count_start(self, name: str, previous: Container | None) -> None:
        if previous is None:
            return
        stable = previous.finished_s - previous.started_s >= STABLE_AFTER_S
        last_s = 0.0 if stable else self._restart_s.get(name, 0.0)
        self._restart_s[name] = min(max(RESTART_INITIAL_S, last_s * 2), RESTART_MAX_S)

    async def _image(self, pod: Object, container: Object) -> str | Hold:
        """The engine's id of the image, or what holds it up."""
        context, reference = self._context, container["image"]
        auths = await pull_auths(pod, reference, context.fetch)
        policy = container.get("imagePullPolicy", "")
        state = await context.images.ensure(reference, policy, pod["metadata"]["uid"], auths)
        match state:
            case Ready(image, pulled_s):
                if pulled_s < 0:
                    text = f'Container image "{reference}" already present on machine'
                else:
                    text = (
                        f'Successfully pulled image "{reference}" in {pulled_s:.3f}s. '
                        f"Image size: {image.size_bytes} bytes."
                    )
                context.recorder.event(pod, "Normal", "Pulled", text)
                return image.id
            case Pulling():
                context.recorder.event(pod, "Normal", "Pulling", f'Pulling image "{reference}"')
                return Hold(float("inf"), "ContainerCreating", "")
            case Failed(reason, message, retry_s):
                self._tell_failed_pull(pod, reference, state)
                return Hold(retry_s, reason, message)

    def _tell_failed_pull(self, pod: Object, reference: str, failed: Failed) -> None:
        recorder = self._context.recorder
        if failed.reason == "ImagePullBackOff":
            recorder.event(pod, "Normal", "BackOff", f'Back-off pulling image "{reference}"')
        else:
            text = f'Failed to pull image "{reference}": {failed.message}'
            recorder.event(pod, "Warning", "Failed", text)
        recorder.event(pod, "Warning", "Failed", f"Error: {failed.reason}")

    async def _prepare(
        self, pod: Object, container: Object, pod_ip: str, attempt: int, image: str
    ) -> translate.Prepared:
        context, facts = self._context, self._context.pod_facts(pod_ip)
        services = [item.object for item in context.services.list()]
        env = await container_env(pod, container, facts, services, context.fetch)
        try:
            mounts = await context.volumes.mounts(pod, container, facts, env, attempt)
        except (ConfigError, ApiError, OSError) as error:
            context.recorder.event(pod, "Warning", "FailedMount", f"MountVolume.SetUp failed: {error}")
            raise
        return translate.Prepared(image, env, mounts, context.facts.memory_bytes)

    async def _clear(self, seen: Observed, name: str) -> None:
        """Make room: one dead incarnation is kept for its logs; one that never started goes."""
        dead: Iterable[Container] = [c for c in seen.containers.get(name, ()) if c.state != "running"]
        unstarted = [c for c in dead if c.state == "created"]
        for container in [*unstarted, *[c for c in dead if c.state == "exited"][KEPT_DEAD:]]:
            await self._context.runtime.remove_container(container.id)
            seen.drop(container.id)

    def _held(self, pod: Object, reason: str, message: str) -> Hold:
        self._context.recorder.event(pod, "Warning", "Failed", f"Error: {message}")
        return Hold(self._context.clock.now_s() + CONFIG_RETRY_S, reason, message)


def shortened(hold: Hold) -> Hold:
    """A hold on an image pull that has ended: due now."""
    return replace(hold, until_s=0.0) if hold.until_s == float("inf") else hold
