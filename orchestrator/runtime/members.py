"""Containers as their figures' reader wants them. Called by the real runtimes."""

from collections.abc import Collection, Sequence

from orchestrator.runtime.interface import Container
from orchestrator.runtime.usage import Member


def members(containers: Sequence[Container], shared: Collection[str]) -> list[Member]:
    """Those that run; `shared` are the uids of pods on the host's network."""
    return [
        Member(each.id, each.pod_uid, each.pid, each.pod_uid not in shared)
        for each in containers
        if each.state == "running" and each.pid > 0
    ]
