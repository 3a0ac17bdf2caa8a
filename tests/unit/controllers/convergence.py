"""Randomised convergence: whatever is done to a cluster, controllers bring it to its specification and then rest.

    class Sets(World):
        def controllers(self, client):             # built anew, with empty caches, at every restart
            return [ReplicaSetController(client, self.clock, self.recorder)]

        async def begin(self):                     # the objects to start from
            await self.cluster.create(REPLICASETS, ...)

        async def do_scale(self, replicas):        # the step ("scale", replicas)
            await self.cluster.patch(REPLICASETS, "rs", {"spec": {"replicas": replicas}})

        async def observe(self, write):            # optional: after each write of a controller; assert here
            ...

        async def final(self):                     # the specification's invariants, once all is calm
            assert len(await self.cluster.pods()) == ...

    @settings(max_examples=25)
    @given(steps(st.tuples(st.just("scale"), st.integers(0, 5))))
    def test_it_converges(script):
        run(Sets, script)

`run` plays the script on a real store and registry in memory with a virtual clock; then faults end, the kubelet and
every cache go on, time passes until nobody writes for `quiet_s`, `final` is asked, and neither `quiet_s` more nor a
restart with empty caches may make anybody write. `steps` mixes the given steps with `COMMON` ones, which every
`World` understands:

    ("wait", s) ("settle",) ("restart",)           time; everybody done; controllers anew (also in mid-request)
    ("fault", [kind, ...])                         what becomes of the controllers' next writes, see `FAULTS`
    ("lag", bool)                                  their caches stand still, or go on
    ("stall", bool)                                the kubelet stands still, or goes on
    ("delete_pod", n) ("fail_pod", n) ("finish_pod", n) ("unready_pod", n) ("relabel_pod", n) ("orphan_pod", n)
                                                   something happens to the n-th pod, modulo how many there are

A step of the world that the API refuses (`ApiError`) is a step that did nothing. A kubelet of its own runs the pods; a
world may hand in others through `kubelet` of its cluster (see conftest). Time never passes by itself.
"""

import asyncio
import os
import random
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from hypothesis import strategies as st

from orchestrator.admission.chain import AdmissionChain
from orchestrator.admission.namespace_lifecycle import NamespaceLifecycle
from orchestrator.api.access import component
from orchestrator.api.errors import ApiError, Conflict, Forbidden, InternalError, Timeout
from orchestrator.api.item import Object
from orchestrator.api.options import DeleteOptions, WatchOptions
from orchestrator.api.resources import NAMESPACES, PODS, Resource, ResourceTable
from orchestrator.api.results import WatchEvent
from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.events import EventRecorder
from orchestrator.client.local import LocalClient
from orchestrator.controllers import views
from orchestrator.informer.cache import Informers
from orchestrator.informer.controller import Controller, Runner
from orchestrator.registry.registry import Registry
from orchestrator.registry.storage import Storage
from orchestrator.registry.strategies import built_in
from orchestrator.store.disk import Disk
from orchestrator.store.engine import LogStore
from tests.unit.controllers.conftest import AllowAll, Cluster, schemas

FAULTS = ("pass", "refused", "forbidden", "conflict", "lost", "late")
"""Nothing; an error before the write (500, 403, 409); done but the answer is lost; done after others had their turn."""

Script = Sequence[tuple[Any, ...]]

_WATCH, _DELETE = WatchOptions(), DeleteOptions()

_pod = st.integers(0, 9)
COMMON = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.02, 1.0, 12.0])),
    st.tuples(st.just("settle")),
    st.tuples(st.just("restart")),
    st.tuples(st.just("fault"), st.lists(st.sampled_from(FAULTS), min_size=1, max_size=5)),
    st.tuples(st.sampled_from(["lag", "stall"]), st.booleans()),
    st.tuples(st.sampled_from(["delete_pod", "fail_pod", "unready_pod", "relabel_pod", "orphan_pod"]), _pod),
)


def steps(*own: st.SearchStrategy[Any], max_size: int = 12) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Scripts of `own` steps and common ones, about half of each."""
    return st.lists(st.one_of(st.one_of(*own), COMMON) if own else COMMON, max_size=max_size)


@dataclass(frozen=True, slots=True)
class Write:
    """What a controller wrote: the object as it was (None when it is new) and as it is (None after a deletion)."""

    verb: str
    resource: Resource
    name: str
    subresource: str
    before: Object | None
    answer: Object | None


class FaultyClient(LocalClient):
    """The controllers' client: its writes meet the planned faults, its watches stand still when the world lags."""

    def __init__(self, registry: Registry, observe: Callable[[Write], Awaitable[None]]) -> None:
        super().__init__(registry, AllowAll(), component("kube-controller-manager"))
        self.faults: deque[str] = deque()
        self.going = asyncio.Event()
        self.going.set()
        self._observe = observe

    async def watch(
        self, resource: Resource, namespace: str | None = None, options: WatchOptions = _WATCH
    ) -> AsyncGenerator[list[WatchEvent], None]:
        batches = super().watch(resource, namespace, options)
        try:
            async for batch in batches:
                await self.going.wait()
                yield batch
        finally:
            await batches.aclose()

    async def create(self, resource: Resource, obj: Object, namespace: str = "", **more: str) -> Object:
        work = super().create(resource, obj, namespace, **more)
        name = obj["metadata"].get("name", "")
        answer = await self._write(
            work, partial(Write, "create", resource, name, more.get("subresource", ""), None)
        )
        return cast(Object, answer)

    async def update(self, resource: Resource, obj: Object, *, subresource: str = "") -> Object:
        meta = obj["metadata"]
        before = await self._before(resource, meta["name"], meta.get("namespace", ""))
        work = super().update(resource, obj, subresource=subresource)
        return cast(
            Object,
            await self._write(work, partial(Write, "update", resource, meta["name"], subresource, before)),
        )

    async def patch(self, resource: Resource, name: str, namespace: str, patch: Any, **more: Any) -> Object:
        before = await self._before(resource, name, namespace)
        work = super().patch(resource, name, namespace, patch, **more)
        write = partial(Write, "patch", resource, name, more.get("subresource", ""), before)
        return cast(Object, await self._write(work, write))

    async def delete(
        self, resource: Resource, name: str, namespace: str = "", options: DeleteOptions = _DELETE
    ) -> None:
        before = await self._before(resource, name, namespace)
        work = super().delete(resource, name, namespace, options)
        await self._write(work, partial(Write, "delete", resource, name, "", before))

    async def _before(self, resource: Resource, name: str, namespace: str) -> Object | None:
        try:
            return await self.get(resource, name, namespace)
        except ApiError:
            return None

    async def _write(
        self, work: Coroutine[Any, Any, Object | None], write: Callable[[Object | None], Write]
    ) -> Object | None:
        fault = self.faults.popleft() if self.faults else "pass"
        refusal = {"refused": InternalError, "forbidden": Forbidden, "conflict": Conflict}.get(fault)
        if refusal is not None:
            work.close()
            raise refusal(f"fault: {fault}")
        if fault == "late":
            try:
                for _ in range(30):
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                work.close()  # A restart in mid-request: it never reached the server.
                raise
        answer = await work
        await self._observe(write(answer))
        if fault == "lost":
            raise Timeout("fault: lost")
        return answer


class World:
    """One trial; see the module. Subclasses give `controllers`, `begin`, `do_<step>`, `observe` and `final`."""

    quiet_s = 60.0
    """Nobody may write for so long in the end; longer than any timer of the controllers that still counts."""
    patience_s = 7200.0
    """Virtual time in which that must be reached."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.clock = cluster, cluster.clock
        self.writes: list[Write] = []
        """Every write of the controllers and of their events, for `final` and for messages."""
        self.broken: list[BaseException] = []
        self._supervisor: Supervisor | None = None
        self._runners: list[Runner] = []

    def controllers(self, client: FaultyClient) -> list[Controller]:
        raise NotImplementedError

    async def begin(self) -> None:
        """Make what the script starts from; the controllers run already."""

    async def observe(self, write: Write) -> None:
        """Called in the middle of a controller's work, before it gets the answer."""

    async def final(self) -> None:
        """Raise AssertionError unless the cluster is as the specification says."""

    async def play(self, script: Script) -> None:
        """The whole trial. Raises AssertionError when an invariant breaks or somebody goes on writing."""
        await self.cluster.start()
        await self._boot()
        await self.begin()
        for name, *arguments in script:
            with suppress(ApiError):
                await getattr(self, f"do_{name}")(*arguments)
            await self._turns()
            self._raise_broken()
        await self._calm_down()
        await self.final()
        assert not await self._writes_within(self.quiet_s), f"writes at rest: {self._latest()}"
        await self._boot()
        assert not await self._writes_within(self.quiet_s), f"writes after a restart: {self._latest()}"
        self._raise_broken()

    async def end(self) -> None:
        """Stop everything that `play` started. May be called twice."""
        if self._supervisor is not None:
            await self._supervisor.stop()
            self._supervisor = None

    async def do_wait(self, duration_s: float) -> None:
        await self.clock.advance(duration_s)

    async def do_settle(self) -> None:
        await self.cluster.settle()

    async def do_restart(self) -> None:
        await self._boot()

    async def do_fault(self, kinds: list[str]) -> None:
        self.client.faults.extend(kinds)

    async def do_lag(self, lags: bool) -> None:
        (self.client.going.clear if lags else self.client.going.set)()

    async def do_stall(self, stalls: bool) -> None:
        self.cluster.kubelet.hold = lambda pod: stalls

    async def do_delete_pod(self, number: int) -> None:
        for pod in await self._picked(number):
            await self.cluster.client.delete(PODS, pod["metadata"]["name"], pod["metadata"]["namespace"])

    async def do_fail_pod(self, number: int) -> None:
        await self._report(number, {"phase": "Failed"})

    async def do_finish_pod(self, number: int) -> None:
        await self._report(number, {"phase": "Succeeded"})

    async def do_unready_pod(self, number: int) -> None:
        await self._report(number, {"conditions": [{"type": "Ready", "status": "False"}]})

    async def do_relabel_pod(self, number: int) -> None:
        await self._patch_pod(number, {"metadata": {"labels": {"app": "somebody-else"}}})

    async def do_orphan_pod(self, number: int) -> None:
        await self._patch_pod(number, {"metadata": {"ownerReferences": None}})

    async def _picked(self, number: int) -> list[Object]:
        """One pod, or none when there is none; the order is that of their names."""
        pods = sorted(await self.cluster.pods(), key=lambda pod: pod["metadata"]["name"])
        return [pods[number % len(pods)]] if pods else []

    async def _patch_pod(self, number: int, patch: Object, **more: Any) -> None:
        for pod in await self._picked(number):
            await self.cluster.patch(PODS, pod["metadata"]["name"], patch, **more)

    async def _report(self, number: int, status: Object) -> None:
        await self._patch_pod(number, {"status": status}, type="strategic", subresource="status")

    async def _boot(self) -> None:
        """Controllers, informers and queues anew; the old ones end wherever they are."""
        await self.end()
        for runner in self._runners:
            self.cluster._runners.remove(runner)
        self._supervisor = Supervisor("trial", self.clock)
        self.client = FaultyClient(self.cluster.registry, self._observed)
        events = FaultyClient(self.cluster.registry, self._noted)
        self.recorder = EventRecorder(events, "trial", "", self.clock)
        self._supervisor.serve("events", self.recorder.run)
        informers = Informers(self.client, self._supervisor, self.clock, resync_s=0, rng=random.Random(1))
        self._runners = [
            Runner(controller, informers, self._supervisor, self.clock)
            for controller in self.controllers(self.client)
        ]
        self.cluster._runners += self._runners
        informers.start()
        for runner in self._runners:
            runner.start()

    async def _turns(self) -> None:
        """Everybody gets some turns, but not so many that all is done."""
        for _ in range(5):
            await asyncio.sleep(0)

    async def _noted(self, write: Write) -> None:
        self.writes.append(write)

    async def _observed(self, write: Write) -> None:
        await self._noted(write)
        try:
            await self.observe(write)
        except AssertionError as error:
            self.broken.append(error)

    def _raise_broken(self) -> None:
        if self.broken:
            raise self.broken[0]

    async def _calm_down(self) -> None:
        """No faults any more; time goes on until nobody writes."""
        self.client.faults.clear()
        self.client.going.set()
        self.cluster.kubelet.hold = lambda pod: False
        until_s = self.clock.monotonic_s() + self.patience_s
        while await self._writes_within(self.quiet_s):
            self._raise_broken()
            assert self.clock.monotonic_s() < until_s, f"never at rest: {self._latest()}"

    async def _writes_within(self, duration_s: float) -> bool:
        before = len(self.writes)
        await self.cluster.advance(duration_s, step_s=duration_s / 3)
        return len(self.writes) != before

    def _latest(self) -> list[str]:
        return [f"{w.verb} {w.resource.plural}/{w.name} {w.subresource}" for w in self.writes[-6:]]


def run(world: Callable[[Cluster], World], script: Script) -> None:
    """Play `script` in a new `world` with an event loop of its own. Raises what the trial raises."""
    asyncio.run(_run(world, script))


async def _run(world: Callable[[Cluster], World], script: Script) -> None:
    async with _cluster() as cluster:
        trial = world(cluster)
        try:
            await trial.play(script)
        finally:
            await trial.end()


class _QuickDisk(Disk):
    """A disk that a trial need not outlive: nothing is forced onto it."""

    def write_durably(self, fd: int, data: bytes, offset: int) -> None:
        self.write(fd, data, offset)

    def sync(self, fd: int) -> None:
        return None

    def allocate(self, fd: int, offset: int, size: int) -> None:
        os.ftruncate(fd, offset + size)

    def sync_directory(self, path: Path) -> None:
        return None


@asynccontextmanager
async def _cluster() -> AsyncGenerator[Cluster, None]:
    clock = VirtualClock()
    supervisor = Supervisor("cluster", clock)
    views._views.clear()  # Trials of one seed give the same uids and revisions to different pods.
    with tempfile.TemporaryDirectory(prefix="orc-trial-") as directory:
        store = await LogStore.open(Path(directory) / "store", clock, supervisor, _QuickDisk())
        rng = random.Random(7)
        strategies = built_in("10.43.0.0/16", range(30000, 30100), clock, rng)
        chain = AdmissionChain((NamespaceLifecycle(Storage(store, clock)),))
        registry = Registry(store, ResourceTable(), schemas(), strategies, chain, clock, rng)
        cluster = Cluster(store, registry, clock, supervisor)
        try:
            await cluster.create(NAMESPACES, {"metadata": {"name": "default"}})
            yield cluster
        finally:
            await supervisor.stop()
            await registry.close()
            await store.close()
