"""Pods and containers for the agent's tests."""

from typing import Any

from orchestrator.agent.pods.observed import HASH, Observed
from orchestrator.agent.pods.plan import Operation, Probed, Situation, plan
from orchestrator.agent.podspec import container_hash
from orchestrator.runtime.interface import Container, Sandbox

Json = dict[str, Any]
NOW_S = 1_700_000_000.0


def pod(*containers: Json, inits: tuple[Json, ...] = (), policy: str = "Always", **spec: Any) -> Json:
    body: Json = {"containers": list(containers) or [spec_of("app")], "restartPolicy": policy, **spec}
    if inits:
        body["initContainers"] = list(inits)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "uid": "u1", "generation": 1},
        "spec": body,
        "status": {},
    }


def spec_of(name: str, **more: Any) -> Json:
    return {"name": name, "image": "demo:1", **more}


def sandbox(attempt: int = 0, *, running: bool = True) -> Sandbox:
    return Sandbox(f"s{attempt}", "u1", "web", "default", attempt, running, NOW_S, "/proc/1/ns/net")


def container(
    name: str,
    state: str = "running",
    *,
    attempt: int = 0,
    code: int = 0,
    sandbox_id: str = "s0",
    image: str = "demo:1",
    ran_s: float = 5.0,
) -> Container:
    return Container(
        id=f"{name}-{attempt}",
        sandbox_id=sandbox_id,
        pod_uid="u1",
        pod_name="web",
        pod_namespace="default",
        name=name,
        attempt=attempt,
        image=image,
        image_id="sha256:1",
        state=state,  # type: ignore[arg-type]
        created_s=NOW_S - 60,
        started_s=NOW_S - 60 if state != "created" else 0.0,
        finished_s=NOW_S - 60 + ran_s if state == "exited" else 0.0,
        exit_code=code,
        annotations={HASH: container_hash({"name": name, "image": image})},
    )


def seen(*parts: Sandbox | Container) -> Observed:
    return Observed.of(
        [part for part in parts if isinstance(part, Sandbox)],
        [part for part in parts if isinstance(part, Container)],
    )


def decide(
    desired: Json,
    observed: Observed,
    probed: dict[str, Probed] | None = None,
    due: dict[str, float] | None = None,
) -> Operation:
    return plan(Situation(desired, observed, NOW_S, probed or {}, lambda name: (due or {}).get(name, 0.0)))
