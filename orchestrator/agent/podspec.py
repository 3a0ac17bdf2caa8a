"""Reading a pod: small pure questions about its spec that several parts of the agent ask."""

import datetime
import hashlib
from collections.abc import Iterator

import msgspec

from orchestrator.api.item import Object
from orchestrator.api.quantity import as_int, as_milli, parse

CONTAINER_FIELDS = ("initContainers", "containers", "ephemeralContainers")
STATUS_FIELDS = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


def containers(pod: Object) -> list[Object]:
    """The regular containers."""
    return list(pod["spec"].get("containers") or ())


def init_containers(pod: Object) -> list[Object]:
    """Init containers in order, sidecars among them."""
    return list(pod["spec"].get("initContainers") or ())


def is_sidecar(container: Object) -> bool:
    """An init container that stays."""
    return container.get("restartPolicy") == "Always"


def all_containers(pod: Object) -> Iterator[Object]:
    """Every container of every sort."""
    for field in CONTAINER_FIELDS:
        yield from pod["spec"].get(field) or ()


def find_container(pod: Object, name: str) -> Object | None:
    return next((container for container in all_containers(pod) if container["name"] == name), None)


def is_init(pod: Object, name: str) -> bool:
    """Whether `name` is an init container or sidecar."""
    return any(container["name"] == name for container in init_containers(pod))


def is_ephemeral(pod: Object, name: str) -> bool:
    return any(container["name"] == name for container in pod["spec"].get("ephemeralContainers") or ())


def written_status(pod: Object, name: str) -> Object:
    """What the API has of one container's status; empty when it has none."""
    status = pod.get("status") or {}
    for field in STATUS_FIELDS:
        for entry in status.get(field) or ():
            if entry["name"] == name:
                found: Object = entry
                return found
    return {}


def restart_policy(pod: Object) -> str:
    return str(pod["spec"].get("restartPolicy", "Always"))


def is_host_network(pod: Object) -> bool:
    return bool(pod["spec"].get("hostNetwork"))


def is_deleting(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def is_finished(pod: Object) -> bool:
    """The written phase is final."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def grace_period_s(pod: Object) -> int:
    """Seconds that containers get to stop: as asked at deletion, else the spec's."""
    asked = pod["metadata"].get("deletionGracePeriodSeconds")
    if asked is not None:
        return int(asked)
    return int(pod["spec"].get("terminationGracePeriodSeconds", 30))


def container_hash(container: Object) -> str:
    """Changes when the container must be replaced: its image is all that an update of a pod may change."""
    key = msgspec.json.encode([container["name"], container["image"]])
    return hashlib.sha256(key).hexdigest()[:16]


def requests(container: Object, kind: str) -> Object:
    """`requests` or `limits` of a container."""
    return (container.get("resources") or {}).get(kind) or {}


def milli(quantity: str | int | float | None) -> int:
    """A CPU quantity in thousandths; absent is 0."""
    return as_milli(parse(quantity)) if quantity is not None else 0


def whole(quantity: str | int | float | None) -> int:
    """A quantity in whole units, rounded up; absent is 0."""
    return as_int(parse(quantity)) if quantity is not None else 0


def qos_class(pod: Object) -> str:
    """Guaranteed, Burstable or BestEffort, as documented."""
    guaranteed, any_set = True, False
    # Resources of the pod itself decide for all of its containers.
    of_pod = [pod["spec"]] if pod["spec"].get("resources") else None
    for container in of_pod or (*containers(pod), *init_containers(pod)):
        asked, limits = requests(container, "requests"), requests(container, "limits")
        # An amount of zero asks for nothing.
        any_set = any_set or any(
            milli(side.get(name)) for side in (asked, limits) for name in ("cpu", "memory")
        )
        for name in ("cpu", "memory"):
            limit = limits.get(name)
            if not milli(limit) or milli(asked.get(name, limit)) != milli(limit):
                guaranteed = False
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def timestamp(time_s: float) -> str:
    """RFC 3339 in whole seconds, as Kubernetes writes times."""
    moment = datetime.datetime.fromtimestamp(int(time_s), datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(time_s: float) -> str:
    """RFC 3339 with microseconds, as leases use."""
    moment = datetime.datetime.fromtimestamp(time_s, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time."""
    return datetime.datetime.fromisoformat(text).timestamp()
