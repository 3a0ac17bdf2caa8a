"""What the agent knows without measuring: its pods, its health, its settings. Called by `routes`."""

import msgspec

from orchestrator.agent.agent import AgentSettings
from orchestrator.agent.api.call import Call
from orchestrator.api.errors import NotFound
from orchestrator.api.item import Object
from orchestrator.runtime.interface import RuntimeFailure
from orchestrator.web.answer import JSON, TEXT, Answer, Response

CHECKS = ("ping", "log", "syncloop")


async def pods(call: Call) -> Response:
    """Every pod of the node, as its worker knows it."""
    workers = call.agent.workers()
    return _list([{"apiVersion": "v1", "kind": "Pod", **worker.pod} for worker in workers])


async def running_pods(call: Call) -> Response:
    """What the engine runs, however that came: as much of a pod as the engine knows."""
    found: dict[str, Object] = {}
    for container in await call.agent.runtime.list_containers():
        if container.state != "running":
            continue
        metadata = {
            "name": container.pod_name, "namespace": container.pod_namespace, "uid": container.pod_uid,
            "creationTimestamp": None,
        }  # fmt: skip
        pod = found.setdefault(
            container.pod_uid, {"metadata": metadata, "spec": {"containers": []}, "status": {}}
        )
        pod["spec"]["containers"].append({"name": container.name, "image": container.image, "resources": {}})
    return _list(list(found.values()))


def _list(items: list[Object]) -> Response:
    body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
    return Answer(200, msgspec.json.encode(body), JSON)


async def health(call: Call) -> Response:
    """`ok`, or which check fails; `/healthz/<check>` asks one, `?verbose` tells all."""
    wanted = call.parts[1:] or CHECKS
    if wanted[0] not in CHECKS:
        raise NotFound("404 page not found")
    failed = {name: text for name in wanted if (text := await _check(call, name))}
    verbose = "verbose" in call.request.query
    if not failed and not (verbose and len(wanted) > 1):
        return Answer(200, b"ok", TEXT)
    lines = [f"[-]{name} failed: {failed[name]}" if name in failed else f"[+]{name} ok" for name in wanted]
    lines.append("healthz check failed" if failed else "healthz check passed")
    return Answer(500 if failed else 200, ("\n".join(lines) + "\n").encode(), TEXT)


async def _check(call: Call, name: str) -> str:
    """What is wrong, or nothing. The loop that syncs pods needs the engine."""
    if name != "syncloop":
        return ""
    try:
        await call.agent.runtime.version()
    except RuntimeFailure as error:
        return str(error)
    return "" if call.agent.ready else "the agent is starting"


async def config(call: Call) -> Response:
    """The settings in force, as a `KubeletConfiguration` has them."""
    return Answer(200, msgspec.json.encode({"kubeletconfig": _configuration(call.agent.settings)}), JSON)


def _configuration(settings: AgentSettings) -> Object:
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": settings.node_ip,
        "port": settings.agent_port,
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}},
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [settings.dns.server],
        "clusterDomain": settings.dns.domain,
        "maxPods": settings.kubelet.max_pods,
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 5,
        "streamingConnectionIdleTimeout": "4h0m0s",
        "enableDebuggingHandlers": True,
        "serializeImagePulls": settings.kubelet.images.pulls_max == 1,
        "failSwapOn": False,
    }
