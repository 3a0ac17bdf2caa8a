"""Carrying out what the plan asks for one pod: sandbox, containers, hooks, and the look at the engine.

One instance per pod worker; it owns the restart back-off of the pod's containers. Failures that concern one
container become a `Hold` (what its status shows, and when to try again); failures of the engine or the network
are raised.
"""

import asyncio
from dataclasses import dataclass, replace
from functools import partial

from orchestrator.agent import podspec
from orchestrator.agent.containers import podfiles, runtimeclass, translate
from orchestrator.agent.containers.env import ConfigError, container_env
from orchestrator.agent.context import Context
from orchestrator.agent.images import texts
from orchestrator.agent.images.keyring import pull_credentials
from orchestrator.agent.images.pulling import Failed, Pulling, Ready
from orchestrator.agent.pods import hooks
from orchestrator.agent.pods.history import restarts
from orchestrator.agent.pods.observed import Observed
from orchestrator.agent.pods.plan import Probed, StopContainer
from orchestrator.agent.pods.probes import Target
from orchestrator.agent.pods.restarts import RestartBackoff, duration
from orchestrator.agent.pods.termination import Termination
from orchestrator.agent.volumes.errors import SubPathError, VolumeError
from orchestrator.agent.volumes.images import image_volumes
from orchestrator.api.errors import ApiError
from orchestrator.api.item import Object
from orchestrator.base.backoff import Backoff
from orchestrator.base.errors import OrchestratorError
from orchestrator.runtime.interface import Container, Image, RuntimeFailure, RuntimeUnavailable, Sandbox

CONFIG_RETRY_S = 5.0
MOUNT_RETRY_S = (0.5, 122.0)
"""Between two tries to set up the volumes of a container, as a kubelet's: doubled from the first to the second."""
KEPT_DEAD = 1
"""Dead incarnations kept per container beside the newest, for `logs --previous`."""
_IMAGE_EVENTS = {
    "ErrImageNeverPull": "ErrImageNeverPull",
    "InvalidImageName": "InspectFailed",
    "ImageInspectError": "InspectFailed",
}
"""Reasons of the events for images that nobody tries to pull."""


class MountFailure(OrchestratorError):
    """A volume can't be set up yet; the pod goes on waiting in creation."""

    def __init__(self, message: str, *, tried: bool) -> None:
        super().__init__(message)
        self.tried = tried


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a container does not start now. Infinity in `until_s` means until an image pull has ended."""

    until_s: float
    reason: str
    message: str


class Operations:
    """Operations of one pod."""

    def __init__(self, context: Context, termination: Termination, leave: asyncio.Event) -> None:
        """`leave` is set once the pod is to end: nothing that may take for ever goes on then."""
        self._context = context
        self._termination = termination
        self._leave = leave
        self._backoff = RestartBackoff()
        self._mounting = Backoff(*MOUNT_RETRY_S)
        """Failures to set up volumes in a row, by container."""
        self._told: set[str] = set()

    async def create_sandbox(self, pod: Object, attempt: int, seen: Observed) -> tuple[Sandbox, str]:
        """A running sandbox with its network, and the pod's address. The one before is stopped, older ones go."""
        context = self._context
        if seen.sandboxes:
            text = "Pod sandbox changed, it will be killed and re-created."
            context.recorder.event(pod, "Normal", "SandboxChanged", text)
        for old in seen.sandboxes:
            await context.network.detach(old.id)
            await context.runtime.stop_sandbox(old.id)
        self._tell_dns(pod)
        for old in seen.sandboxes[1:]:
            await context.runtime.remove_sandbox(old.id)
            seen.drop_sandbox(old.id)
        try:
            handler = await runtimeclass.handler(pod, context.fetch)
            domain = context.containers.domain
            spec = translate.sandbox_spec(pod, attempt, domain=domain, runtime_handler=handler)
            sandbox = await context.runtime.create_sandbox(spec)
            if spec.network == "host":
                return sandbox, context.facts.ip
            return sandbox, await self._attach(sandbox)
        except Exception as error:
            text = f"Failed to create pod sandbox: {error}"
            context.recorder.event(pod, "Warning", "FailedCreatePodSandBox", text)
            raise

    def _tell_dns(self, pod: Object) -> None:
        """What of the pod's resolver settings has no effect; only its own can be too many."""
        dns, spec = self._context.containers.dns, pod["spec"]
        if dns is not None and (spec.get("dnsConfig") or spec.get("dnsPolicy") == "Default"):
            for text in podfiles.dns_problems(pod, dns):
                self._context.recorder.event(pod, "Warning", "DNSConfigForming", text)

    async def _attach(self, sandbox: Sandbox) -> str:
        try:
            return await self._context.network.attach(sandbox.id, sandbox.netns_path)
        except Exception:
            await self._context.runtime.remove_sandbox(sandbox.id)
            await self._context.network.detach(sandbox.id)
            raise

    async def start_container(
        self, pod: Object, container: Object, attempt: int, sandbox_id: str, pod_ip: str, seen: Observed
    ) -> Container | Hold:
        """Create and start one incarnation, or say what holds it up. Raises `RuntimeUnavailable`."""
        context, name = self._context, container["name"]
        try:
            image = await self._images(pod, container)
            if isinstance(image, Hold):
                return image
            prepared = await self._prepare(pod, container, pod_ip, attempt, image)
            prepared = replace(prepared, target_id=_target_id(container, seen))
            if context.devices is not None:
                prepared = prepared.with_devices(await context.devices.edits(pod, container))
            spec = translate.container_spec(pod, container, sandbox_id, attempt, prepared)
            await self._clear(seen, name)
            container_id = await context.runtime.create_container(spec)
        except RuntimeUnavailable:
            raise
        except MountFailure as error:
            delay_s = self._mounting.next_s(name) if error.tried else CONFIG_RETRY_S
            return Hold(context.clock.now_s() + delay_s, "", "")
        except (ConfigError, ApiError, OSError) as error:
            return self._held(pod, "CreateContainerConfigError", str(error))
        except RuntimeFailure as error:
            return self._held(pod, "CreateContainerError", str(error))
        context.recorder.event(pod, "Normal", "Created", f"Container created: {name}")
        return await self._run(pod, container, container_id, pod_ip, seen)

    async def _run(
        self, pod: Object, container: Object, container_id: str, pod_ip: str, seen: Observed
    ) -> Container | Hold:
        """Start what was created. One that can't be started counts as ended, and backs off like any other."""
        context, name = self._context, container["name"]
        self._backoff.count(container, seen.newest(name))
        problem = ""
        try:
            await context.runtime.start_container(container_id)
        except RuntimeUnavailable:
            raise
        except RuntimeFailure as error:
            problem = str(error)
        started = await context.runtime.inspect_container(container_id)
        if problem:
            context.recorder.event(pod, "Warning", "Failed", f"Error: {problem}")
            if started is None or started.state != "exited":
                await context.runtime.remove_container(container_id)
                return Hold(context.clock.now_s() + CONFIG_RETRY_S, "RunContainerError", problem)
            return started
        context.recorder.event(pod, "Normal", "Started", f"Container started: {name}")
        if started is None:
            return self._held(pod, "RunContainerError", f"container {name} vanished after its start")
        return await self._post_start(pod, container, started, pod_ip, seen)

    async def _post_start(
        self, pod: Object, container: Object, started: Container, pod_ip: str, seen: Observed
    ) -> Container:
        """Run the hook; a container whose hook fails is stopped and ends like one that failed."""
        context, hook = self._context, (container.get("lifecycle") or {}).get("postStart")
        if hook is None or started.state != "running":
            return started
        seen.replace(started)
        work = context.supervisor.spawn(
            "postStart", hooks.run(context.runtime, context.clock, started, container, hook, pod_ip)
        )
        leaving = context.supervisor.spawn("leave", self._leave.wait())
        try:
            await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
            problem = work.result() if work.done() else ""
        finally:
            work.cancel()
            leaving.cancel()
        if problem:
            hooks.tell(context.recorder, pod, container["name"], "PostStart", problem)
            stop = StopContainer(started.id, started.name, "FailedPostStartHook")
            await self.stop_container(pod, seen, stop, pod_ip)
        return await context.runtime.inspect_container(started.id) or started

    async def stop_container(self, pod: Object, seen: Observed, stop: StopContainer, pod_ip: str) -> None:
        """Stop one container of a pod that goes on; its hook runs first."""
        container = seen.find(stop.container_id)
        if container is None or container.state != "running":
            return
        grace_s = float(pod["spec"].get("terminationGracePeriodSeconds", 30))
        if stop.grace_s is not None:
            grace_s = float(stop.grace_s)
        await self._termination.stop_one(pod, container, stop.why, pod_ip, grace_s)
        await self._context.prober.forget(stop.container_id)

    def probe(self, pod: Object, seen: Observed, pod_ip: str) -> None:
        """Have every running container probed; the verdict on an adopted one starts from the written status."""
        uid = pod["metadata"]["uid"]
        for container in seen.running():
            spec = podspec.find_container(pod, container.name)
            if spec is None:
                continue
            written, adopted = podspec.written_status(pod, container.name), None
            known = "running" in (written.get("state") or {})
            if known and written.get("containerID", "").endswith(f"://{container.id}"):
                started = bool(written.get("started")) or "startupProbe" not in spec
                adopted = Probed(started=started, ready=bool(written.get("ready")))
            self._context.prober.watch(Target(uid, pod_ip, container, spec), adopted)

    def restart_due_s(self, pod: Object, name: str, newest: Container | None) -> float:
        """When a container that has ended may start again; 0 when at once."""
        spec = podspec.find_container(pod, name)
        return self._backoff.due_s(spec, newest) if spec is not None else 0.0

    def crash_hold(self, pod: Object, name: str, newest: Container | None, now_s: float) -> Hold | None:
        """CrashLoopBackOff while a restart is held back."""
        spec = podspec.find_container(pod, name)
        if spec is None or newest is None or newest.state != "exited" or not restarts(pod, spec, newest):
            return None
        due_s = self._backoff.due_s(spec, newest)
        if due_s <= now_s:
            return None
        metadata = pod["metadata"]
        whole = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
        delay = duration(self._backoff.delay_s(spec, newest))
        if newest.id not in self._told:
            self._told.add(newest.id)
            event = f"Back-off restarting failed container {name} in pod {whole}"
            self._context.recorder.event(pod, "Warning", "BackOff", event)
        return Hold(
            due_s, "CrashLoopBackOff", f"back-off {delay} restarting failed container={name} pod={whole}"
        )

    async def _images(self, pod: Object, container: Object) -> Image | Hold:
        """The container's image, once those of its volumes are here too; or what holds one of them up."""
        for volume in image_volumes(pod, container):
            held = await self._image(pod, volume)
            if isinstance(held, Hold):
                return held
        return await self._image(pod, container)

    async def _image(self, pod: Object, container: Object) -> Image | Hold:
        """The image, or what holds it up."""
        context, reference = self._context, container["image"]
        found = await pull_credentials(pod, reference, context.fetch)
        if found.missing:
            text = texts.missing_secrets(found.missing)
            context.recorder.event(pod, "Warning", "FailedToRetrieveImagePullSecret", text)
        policy = container.get("imagePullPolicy", "")
        state = await context.images.ensure(reference, policy, pod["metadata"]["uid"], found.credentials)
        match state:
            case Ready(image):
                context.recorder.event(pod, "Normal", "Pulled", texts.pulled(reference, state))
                return image
            case Pulling(after):
                context.recorder.event(pod, "Normal", "Pulling", f'Pulling image "{reference}"')
                shown = (after.reason, after.message) if after else ("", "")
                return Hold(float("inf"), *shown)
            case Failed(reason, message, retry_s):
                self._tell_failed_pull(pod, reference, state)
                return Hold(retry_s, reason, message)

    def _tell_failed_pull(self, pod: Object, reference: str, failed: Failed) -> None:
        recorder = self._context.recorder
        if failed.reason == "ImagePullBackOff":
            recorder.event(pod, "Normal", "BackOff", f'Back-off pulling image "{reference}"')
        elif failed.reason in _IMAGE_EVENTS:
            recorder.event(pod, "Warning", _IMAGE_EVENTS[failed.reason], failed.message)
        else:
            text = f'Failed to pull image "{reference}": {failed.message}'
            recorder.event(pod, "Warning", "Failed", text)
        recorder.event(pod, "Warning", "Failed", f"Error: {failed.reason}")

    async def _prepare(
        self, pod: Object, container: Object, pod_ip: str, attempt: int, image: Image
    ) -> translate.Prepared:
        """Raises `ConfigError` for the environment, `MountFailure` for volumes."""
        context, facts = self._context, self._context.pod_facts(pod_ip)
        read = partial(context.volumes.text, pod["metadata"]["uid"])
        env = await container_env(pod, container, facts, self._services(pod), context.fetch, read)
        try:
            mounts = await context.volumes.mounts(pod, container, facts, env, attempt)
            devices = await context.volumes.devices(pod, container, facts)
        except SubPathError:
            raise
        except (ConfigError, ApiError, OSError, RuntimeFailure) as error:
            reason = error.reason if isinstance(error, VolumeError) else "FailedMount"
            context.recorder.event(pod, "Warning", reason, str(error))
            tried = not isinstance(error, VolumeError) or error.tried
            raise MountFailure(str(error), tried=tried) from error
        self._mounting.reset(container["name"])
        settings = context.containers
        return translate.Prepared(
            image,
            env,
            mounts,
            context.facts.memory_bytes,
            devices,
            seccomp_profiles=settings.seccomp_profiles,
            pids_max=settings.pids_max,
        )

    def _services(self, pod: Object) -> list[Object]:
        """Those that the environment names: the pod's namespace's, and `kubernetes`."""
        services, namespace = self._context.services, pod["metadata"]["namespace"]
        found = services.list(namespace) if pod["spec"].get("enableServiceLinks", True) else []
        master = [item for item in services.list("default") if item.meta.name == "kubernetes"]
        return [item.object for item in (*master, *found)]

    async def _clear(self, seen: Observed, name: str) -> None:
        """Make room: one dead incarnation is kept for its logs; one that never started goes."""
        dead = [c for c in seen.containers.get(name, ()) if c.state != "running"]
        unstarted = [c for c in dead if c.state == "created"]
        for container in [*unstarted, *[c for c in dead if c.state == "exited"][KEPT_DEAD:]]:
            await self._context.runtime.remove_container(container.id)
            seen.drop(container.id)
            self._told.discard(container.id)

    def _held(self, pod: Object, reason: str, message: str) -> Hold:
        self._context.recorder.event(pod, "Warning", "Failed", f"Error: {message}")
        return Hold(self._context.clock.now_s() + CONFIG_RETRY_S, reason, message)


def _target_id(container: Object, seen: Observed) -> str:
    """The container whose processes an ephemeral one wants to see; empty where it names none that runs."""
    target = seen.newest(container.get("targetContainerName") or "")
    return target.id if target is not None and target.state == "running" else ""


def shortened(hold: Hold) -> Hold:
    """A hold on an image pull that has ended: due now."""
    return replace(hold, until_s=0.0) if hold.until_s == float("inf") else hold
