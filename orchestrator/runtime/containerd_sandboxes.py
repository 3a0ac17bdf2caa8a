"""Sandboxes on containerd: namespaces held by files, and a record in containerd that says whose they are.

There is a process, our pause program, only where containers share a process namespace: it is the one kind that
ends with its first process. The record has no task otherwise. Owner: `ContainerdRuntime`.
"""

import asyncio
import hashlib
import itertools
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.base.clock import Clock
from orchestrator.runtime import cgroups, containerd_namespaces, pause
from orchestrator.runtime import containerd_specs as specs
from orchestrator.runtime.containerd_api import SPEC_TYPE, ContainerdApi
from orchestrator.runtime.containerd_handlers import handler
from orchestrator.runtime.containerd_tasks import Tasks
from orchestrator.runtime.imagetar import host_architecture
from orchestrator.runtime.interface import RuntimeFailure, Sandbox, SandboxSpec

PLAIN_SPEC = {"ociVersion": "1.0.2"}
"""What containerd keeps for a record that has no process."""


class Sandboxes:
    """The sandboxes of one instance. `directory` holds one directory for each."""

    def __init__(
        self, api: ContainerdApi, tasks: Tasks, directory: Path, instance: str, clock: Clock
    ) -> None:
        self._api = api
        self._tasks = tasks
        self._directory = directory
        self._instance = instance
        self._clock = clock
        self._numbers = itertools.count(1)
        self._labels: dict[str, Mapping[str, str]] = {}
        self._pause_pids: dict[str, int] = {}

    def directory(self, sandbox_id: str) -> Path:
        """Where the sandbox's namespaces and files lie."""
        return self._directory / "sandboxes" / sandbox_id

    async def create(self, spec: SandboxSpec, facts: specs.HostFacts) -> Sandbox:
        """Record, namespaces, and the pause process where one is needed. Leaves nothing when it fails."""
        labels, chosen = specs.sandbox_labels(self._instance, spec), handler(spec.runtime_handler)
        text = f"{self._instance} {spec.pod_uid} {self._clock.now_s()} {next(self._numbers)}"
        sandbox_id = hashlib.sha256(text.encode()).hexdigest()
        directory = self.directory(sandbox_id)
        plan = PLAIN_SPEC
        if spec.pid == "pod":
            root = self._directory / "pause"
            await asyncio.to_thread(_install_pause, root)
            plan = specs.pause_spec(facts, labels, directory, root, f"{labels[specs.CGROUP]}/{sandbox_id}")
        record = {
            "id": sandbox_id,
            "labels": labels,
            "runtime": {"name": chosen.shim},
            "spec": self._api.any(SPEC_TYPE, plan),
        }
        try:
            await self._api.call("create_container", {"container": record})
            await asyncio.to_thread(_make, directory, spec)
            if spec.pid == "pod":
                self._pause_pids[sandbox_id] = await self._tasks.run({"container_id": sandbox_id}, chosen)
        except BaseException:
            await asyncio.shield(self.remove(sandbox_id))
            raise
        self._labels[sandbox_id] = labels
        made = {**record, "created_at": {"seconds": int(self._clock.now_s())}}
        return specs.sandbox_from_record(made, running=True, netns_path=self._netns(sandbox_id, labels))

    def _netns(self, sandbox_id: str, labels: Mapping[str, str]) -> str:
        return str(self.directory(sandbox_id) / "net") if labels.get(specs.NETWORK) == "pod" else ""

    async def labels(self, sandbox_id: str) -> Mapping[str, str]:
        """Of a sandbox that exists; else raises `RuntimeFailure`."""
        known = self._labels.get(sandbox_id)
        if known is None:
            record = await self._api.maybe("container_facts", {"id": sandbox_id})
            known = record["container"].get("labels", {}) if record else {}
            if known.get(specs.KIND) != specs.SANDBOX_KIND:
                raise RuntimeFailure(f"sandbox {sandbox_id} does not exist", "CreateContainerError")
            self._labels[sandbox_id] = known
        return known

    async def pause_pid(self, sandbox_id: str, labels: Mapping[str, str]) -> int:
        """The process that holds the sandbox's process namespace, 0 where there is none."""
        if labels.get(specs.PID) != "pod":
            return 0
        if sandbox_id not in self._pause_pids:
            task = await self._tasks.get(sandbox_id)
            self._pause_pids[sandbox_id] = int((task or {}).get("pid", 0))
        return self._pause_pids[sandbox_id]

    async def listed(
        self, records: list[dict[str, Any]], tasks: Mapping[str, Mapping[str, Any]]
    ) -> list[Sandbox]:
        """All that `records` (of containerd's containers) name, with `tasks` by id."""
        mine = [each for each in records if each.get("labels", {}).get(specs.KIND) == specs.SANDBOX_KIND]
        for gone in self._labels.keys() - {each["id"] for each in mine}:
            del self._labels[gone]
        held = await asyncio.to_thread(self._held, mine)
        return [self._sandbox(each, each["id"] in held, tasks.get(each["id"])) for each in mine]

    async def inspect(self, sandbox_id: str) -> Sandbox | None:
        """One of them; None where the record is gone."""
        record = (await self._api.maybe("container_facts", {"id": sandbox_id}) or {}).get("container", {})
        labels = record.get("labels", {})
        if labels.get(specs.KIND) != specs.SANDBOX_KIND:
            return None
        task = await self._tasks.get(sandbox_id) if labels.get(specs.PID) == "pod" else None
        held = await asyncio.to_thread(self._held, [record])
        return self._sandbox(record, sandbox_id in held, task)

    def _held(self, records: list[dict[str, Any]]) -> set[str]:
        return {
            each["id"]
            for each in records
            if containerd_namespaces.holds(
                self.directory(each["id"]),
                each["labels"].get(specs.NETWORK, ""),
                each["labels"].get(specs.IPC, ""),
            )
        }

    def _sandbox(self, record: dict[str, Any], held: bool, task: Mapping[str, Any] | None) -> Sandbox:
        labels = record["labels"]
        needs_task = labels.get(specs.PID) == "pod"
        running = held and (not needs_task or (task or {}).get("status", 0) == specs.RUNNING)
        netns_path = self._netns(record["id"], labels)
        return specs.sandbox_from_record(record, running=running, netns_path=netns_path)

    async def stop(self, sandbox_id: str) -> None:
        """Ends the pause process and lets the namespaces go."""
        self._pause_pids.pop(sandbox_id, None)
        await self._tasks.kill(sandbox_id, signal.SIGKILL)
        await self._tasks.discard(sandbox_id)
        await asyncio.to_thread(containerd_namespaces.release, self.directory(sandbox_id))

    async def remove(self, sandbox_id: str) -> None:
        """With the pod's cgroup; the record goes last, so that what is cut off is found again."""
        record = await self._api.maybe("container_facts", {"id": sandbox_id})
        labels = record["container"].get("labels", {}) if record else {}
        await self.stop(sandbox_id)
        await asyncio.to_thread(containerd_namespaces.remove, self.directory(sandbox_id))
        await asyncio.to_thread(cgroups.remove, labels.get(specs.CGROUP, ""))
        await self._api.maybe("delete_container", {"id": sandbox_id})
        self._labels.pop(sandbox_id, None)


def _make(directory: Path, spec: SandboxSpec) -> None:
    containerd_namespaces.make(directory, spec)
    if spec.hostname:
        (directory / "hostname").write_text(f"{spec.hostname}\n")


def _install_pause(root: Path) -> None:
    """The pause program as a root directory of its own; no image is needed for it."""
    program = root / "pause"
    if program.exists():
        return
    for name in ("proc", "dev"):
        (root / name).mkdir(parents=True, exist_ok=True)
    fresh = root / ".pause"
    fresh.write_bytes(pause.program(host_architecture()))
    fresh.chmod(0o755)
    fresh.rename(program)
