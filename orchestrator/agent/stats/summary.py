"""`/stats/summary`: a snapshot as the kubelet's Summary API (v1alpha1) tells it. Pure."""

from collections.abc import Iterable

from orchestrator.agent.podspec import timestamp
from orchestrator.agent.stats.usage import (
    ContainerUsage,
    DiskUse,
    FileSystem,
    NodeUsage,
    PodUsage,
    Snapshot,
    VolumeUse,
)
from orchestrator.api.item import Object
from orchestrator.runtime.usage import Interface, Usage

MAIN_INTERFACE = "eth0"


def summary(node_name: str, snapshot: Snapshot, *, only_cpu_and_memory: bool = False) -> Object:
    """The whole answer. Figures that were not measured are left out."""
    brief = only_cpu_and_memory
    return {
        "node": _node(node_name, snapshot, brief),
        "pods": [_pod(pod, snapshot.node.memory_capacity_bytes, brief) for pod in snapshot.pods],
    }


def _node(name: str, snapshot: Snapshot, brief: bool) -> Object:
    node = snapshot.node
    result: Object = {
        "nodeName": name,
        "systemContainers": [],
        "startTime": timestamp(node.boot_s),
        "cpu": _cpu(node.time_s, node.cpu_ns, node.rate_nanocores),
        "memory": _node_memory(node),
        "swap": {
            "time": timestamp(node.time_s),
            "swapAvailableBytes": node.swap_free_bytes,
            "swapUsageBytes": node.swap_total_bytes - node.swap_free_bytes,
        },
    }
    if brief:
        return result
    result["network"] = _network(node.time_s, node.interfaces)
    if snapshot.node_fs is not None:
        result["fs"] = _file_system(snapshot.node_fs)
    if snapshot.image_fs is not None:
        images = {**_file_system(snapshot.image_fs), "usedBytes": snapshot.images_bytes}
        result["runtime"] = {"imageFs": images, "containerFs": _file_system(snapshot.image_fs)}
    limits = {"maxpid": node.processes_max, "curproc": node.processes}
    result["rlimit"] = {"time": timestamp(node.time_s), **limits}
    return result


def _node_memory(node: NodeUsage) -> Object:
    return {
        "time": timestamp(node.time_s),
        "availableBytes": node.memory_available_bytes,
        "usageBytes": node.memory_usage_bytes,
        "workingSetBytes": node.working_set_bytes,
        "rssBytes": node.rss_bytes,
        "pageFaults": node.page_faults,
        "majorPageFaults": node.major_page_faults,
    }


def _pod(pod: PodUsage, node_bytes: int, brief: bool) -> Object:
    metadata = pod.pod["metadata"]
    result: Object = {
        "podRef": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
        "startTime": (pod.pod.get("status") or {}).get("startTime") or timestamp(pod.time_s),
        "containers": [_container(each, brief) for each in pod.containers],
        "cpu": _cpu(pod.time_s, pod.usage.cpu_ns, pod.rate_nanocores),
        "memory": _memory(pod.time_s, pod.usage),
        "swap": _swap(pod.time_s, pod.usage),
    }
    if brief:
        return result
    if pod.interfaces:
        result["network"] = _network(pod.time_s, pod.interfaces)
    if pod.volumes:
        result["volume"] = [_volume(volume, metadata["namespace"]) for volume in pod.volumes]
    if pod.ephemeral is not None:
        result["ephemeral-storage"] = _disk(pod.ephemeral)
    result["process_stats"] = {"process_count": pod.usage.processes}
    return result


def _container(each: ContainerUsage, brief: bool) -> Object:
    result: Object = {
        "name": each.container.name,
        "startTime": timestamp(each.container.started_s),
        "cpu": _cpu(each.time_s, each.usage.cpu_ns, each.rate_nanocores),
        "memory": _memory(each.time_s, each.usage),
        "swap": _swap(each.time_s, each.usage),
    }
    if not brief:
        places = (("rootfs", each.rootfs), ("logs", each.logs))
        result.update({name: _disk(disk) for name, disk in places if disk is not None})
    return result


def _cpu(time_s: float, cpu_ns: int, rate_nanocores: int) -> Object:
    return {"time": timestamp(time_s), "usageNanoCores": rate_nanocores, "usageCoreNanoSeconds": cpu_ns}


def _memory(time_s: float, usage: Usage) -> Object:
    result: Object = {"time": timestamp(time_s)}
    if usage.memory_limit_bytes:
        result["availableBytes"] = max(0, usage.memory_limit_bytes - usage.working_set_bytes)
    return {
        **result,
        "usageBytes": usage.memory_bytes,
        "workingSetBytes": usage.working_set_bytes,
        "rssBytes": usage.rss_bytes,
        "pageFaults": usage.page_faults,
        "majorPageFaults": usage.major_page_faults,
    }


def _swap(time_s: float, usage: Usage) -> Object:
    return {"time": timestamp(time_s), "swapUsageBytes": usage.swap_bytes}


def _network(time_s: float, interfaces: Iterable[Interface]) -> Object:
    """All interfaces; the main one's figures stand beside as well."""
    found = [_interface(each) for each in interfaces]
    main = next((each for each in found if each["name"] == MAIN_INTERFACE), found[0] if found else {})
    return {"time": timestamp(time_s), **main, "interfaces": found}


def _interface(each: Interface) -> Object:
    return {
        "name": each.name,
        "rxBytes": each.rx_bytes,
        "rxErrors": each.rx_errors,
        "txBytes": each.tx_bytes,
        "txErrors": each.tx_errors,
    }


def _file_system(each: FileSystem) -> Object:
    return {
        "time": timestamp(each.time_s),
        "availableBytes": each.available_bytes,
        "capacityBytes": each.capacity_bytes,
        "usedBytes": each.used_bytes,
        "inodesFree": each.inodes_free,
        "inodes": each.inodes,
        "inodesUsed": each.inodes_used,
    }


def _disk(each: DiskUse) -> Object:
    below = each.file_system
    return {
        "time": timestamp(each.time_s),
        "availableBytes": below.available_bytes,
        "capacityBytes": below.capacity_bytes,
        "usedBytes": each.used_bytes,
        "inodesFree": below.inodes_free,
        "inodes": below.inodes,
        "inodesUsed": each.inodes_used,
    }


def _volume(volume: VolumeUse, namespace: str) -> Object:
    result = {**_disk(volume.disk), "name": volume.name}
    if volume.claim:
        result["pvcRef"] = {"name": volume.claim, "namespace": namespace}
    return result
