"""Which pods stand behind a Service, with their addresses, resolved ports and readiness. Pure.

Shared by the controllers of Endpoints and EndpointSlices. A pod with a deletion timestamp is not ready at
once, whatever its probes say; one that finished or has no address is no backend at all.
"""

import ipaddress
from typing import NamedTuple

from orchestrator.api.item import Item, Object
from orchestrator.controllers.objects import join_key
from orchestrator.controllers.views import Container, PodView, pod_view
from orchestrator.informer.cache import Informer
from orchestrator.informer.queue import WorkQueue

HEADLESS_LABEL = "service.kubernetes.io/headless"


class Port(NamedTuple):
    """A Service port as one pod serves it."""

    name: str
    protocol: str
    port: int
    app_protocol: str

    def to_json(self) -> Object:
        entry: Object = {"name": self.name, "port": self.port, "protocol": self.protocol}
        return entry | ({"appProtocol": self.app_protocol} if self.app_protocol else {})


class Backend(NamedTuple):
    """A pod that may get traffic. `serving` is its own readiness, `terminating` its deletion."""

    pod: Item
    ips: tuple[str, ...]
    ports: tuple[Port, ...]
    serving: bool
    terminating: bool
    node: str
    hostname: str

    @property
    def reference(self) -> Object:
        """The `targetRef` of its endpoint."""
        meta = self.pod.meta
        return {"kind": "Pod", "namespace": meta.namespace, "name": meta.name, "uid": meta.uid}


def backends(service: Object, pods: list[Item]) -> list[Backend]:
    """Backends among `pods` (which the selector matches), by name."""
    found = []
    for pod in sorted(pods, key=lambda item: item.meta.name):
        view = pod_view(pod)
        if view.finished or not view.ips:
            continue
        in_domain = view.spec.hostname and view.spec.subdomain == service["metadata"]["name"]
        found.append(
            Backend(
                pod,
                tuple(view.ips),
                tuple(resolve_ports(service, view)),
                view.ready,
                bool(pod.meta.deletion_timestamp),
                view.spec.node_name,
                view.spec.hostname if in_domain else "",
            )
        )
    return found


def triggered_at(service: Object, found: list[Backend]) -> str:
    """When what endpoints say came about: the newest change of a backend's readiness, or the Service itself."""
    times = [service["metadata"].get("creationTimestamp") or ""]
    for backend in found:
        ready = pod_view(backend.pod).condition("Ready")
        if ready is not None:
            times.append(ready.last_transition_time or "")
    return max(times)


def resolve_ports(service: Object, view: PodView) -> list[Port]:
    """The Service's ports as this pod has them; a target name that the pod lacks leaves the port out."""
    resolved = []
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol", "TCP")
        target = port.get("targetPort") or port["port"]
        number = target if isinstance(target, int) else _named(view, target, protocol)
        if number is not None:
            resolved.append(Port(port.get("name", ""), protocol, number, port.get("appProtocol", "")))
    return resolved


def _named(view: PodView, name: str, protocol: str) -> int | None:
    sidecars = [c for c in view.spec.init_containers or () if c.restart_policy == "Always"]
    containers: list[Container] = [*view.spec.containers, *sidecars]
    for container in containers:
        for port in container.ports or ():
            if port.name == name and port.protocol == protocol:
                return port.container_port
    return None


def family(address: str) -> str:
    """`IPv4` or `IPv6`."""
    return f"IPv{ipaddress.ip_address(address).version}"


def families(service: Object) -> list[str]:
    """Address families that the Service serves."""
    return list(service["spec"].get("ipFamilies") or ("IPv4",))


def is_managed(service: Object) -> bool:
    """Whether controllers fill in its endpoints: without a selector the user does."""
    spec = service["spec"]
    return bool(spec.get("selector")) and spec.get("type") != "ExternalName"


def is_headless(service: Object) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


class Selection:
    """Finds the pods of a Service and the Services of a pod through indexes, one bucket each way.

    Owner: one controller. Label pairs name the buckets: `namespace/key=value`.
    """

    def __init__(self, services: Informer, pods: Informer) -> None:
        self._services = services
        self._pods = pods
        services.add_index("selector", selector_index)
        pods.add_index("label", label_index)

    def pods_of(self, service: Object) -> list[Item]:
        selector = service["spec"].get("selector") or {}
        if not selector:
            return []
        candidates = self._pods.by_index("label", _bucket(service["metadata"]["namespace"], selector))
        return [pod for pod in candidates if selector.items() <= pod.labels.items()]

    def services_of(self, pod: Item) -> list[str]:
        """Keys of the Services that select the pod."""
        keys = []
        for bucket in label_index(pod):
            for item in self._services.by_index("selector", bucket):
                service = item.object
                if service["spec"]["selector"].items() <= pod.labels.items():
                    keys.append(join_key(item.meta.namespace, item.meta.name))
        return keys

    def wake(self, queue: WorkQueue, old: Item | None, new: Item | None) -> None:
        """Add the Services that a change of a pod concerns. An unchanged pod (resync) counts as changed."""
        if old is not None and new is not None and old is not new and _facts(old) == _facts(new):
            return
        for pod in (old, new) if old is not new else (new,):
            for key in self.services_of(pod) if pod is not None else ():
                queue.add(key)


def selector_index(item: Item) -> tuple[str, ...]:
    """Index function of Services: the bucket of the selector's first label pair."""
    selector = item.object["spec"].get("selector") or {}
    return (_bucket(item.meta.namespace, selector),) if selector else ()


def label_index(item: Item) -> list[str]:
    """Index function of pods: a bucket per label pair."""
    return [f"{item.meta.namespace}/{key}={value}" for key, value in item.labels.items()]


def _bucket(namespace: str, selector: dict[str, str]) -> str:
    key = min(selector)
    return f"{namespace}/{key}={selector[key]}"


def _facts(pod: Item) -> tuple[object, ...]:
    """What an endpoint is made of."""
    view = pod_view(pod)
    spec = view.spec
    terminating = bool(pod.meta.deletion_timestamp)
    return (
        view.ips, view.ready, view.finished, terminating, spec.node_name, spec.hostname, pod.labels,
    )  # fmt: skip
