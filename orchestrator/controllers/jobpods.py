"""The pods of a Job as its controller counts them, and new ones for it. Pure; used by the modules of Jobs.

1. A pod is *tracked* while it carries the finalizer `batch.kubernetes.io/job-tracking`: it is not counted yet.
2. It failed with the phase Failed, or as soon as it is being deleted, unless only pods that ended are replaced.
3. It is active until it ended or is being deleted, and terminating between the two.
4. The pods of an indexed Job carry their index in an annotation and a label, have a host name with it, and
   see it in `JOB_COMPLETION_INDEX`; with a limit per index they also carry how often the index failed before.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.api.item import Item, Object
from orchestrator.api.resources import JOBS
from orchestrator.api.times import seconds
from orchestrator.controllers.objects import controller_of
from orchestrator.controllers.pods import new_pod
from orchestrator.controllers.views import PodView, pod_view

TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
UID_LABEL = "batch.kubernetes.io/controller-uid"
INDEX_FAILURES = "batch.kubernetes.io/job-index-failure-count"
INDEX_IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"
MANAGER = "kubernetes.io/job-controller"
_INDEX_ENV = "JOB_COMPLETION_INDEX"
_GENERATED_BASE_MAX = 58
_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """A Job's spec, as far as its pods are concerned. `completions` of None: any success ends it."""

    indexed: bool
    completions: int | None
    parallelism: int
    backoff_limit: int
    index_limit: int | None
    only_failed: bool
    suspended: bool
    failure_policy: list[Object] | None
    """Rules by which failures are judged; None without a policy."""

    def valid(self, pod: "JobPod") -> bool:
        """Whether the pod can count: one of an indexed Job needs an index that the Job has."""
        return not self.indexed or 0 <= pod.index < (self.completions or 0)


def wanted(spec: Object) -> Wanted:
    policy = spec.get("podFailurePolicy")
    return Wanted(
        indexed=spec.get("completionMode") == "Indexed",
        completions=spec.get("completions"),
        parallelism=spec.get("parallelism", 1),
        backoff_limit=spec.get("backoffLimit", 6),
        index_limit=spec.get("backoffLimitPerIndex"),
        only_failed=policy is not None or spec.get("podReplacementPolicy") == "Failed",
        suspended=bool(spec.get("suspend")),
        failure_policy=None if policy is None else policy.get("rules") or [],
    )


@dataclass(frozen=True, slots=True)
class JobPod:
    """One pod; `index` is -1 without one."""

    item: Item
    view: PodView
    uid: str
    index: int
    tracked: bool
    succeeded: bool
    failed: bool
    active: bool
    terminating: bool

    @property
    def index_failures(self) -> int:
        """Failures of its index before it that counted."""
        return _count(self.view, INDEX_FAILURES)

    @property
    def index_ignored(self) -> int:
        """Failures of its index before it that a policy told to ignore."""
        return _count(self.view, INDEX_IGNORED)


def job_pod(item: Item, want: Wanted, gone: set[str]) -> JobPod:
    """`gone` are the uids of pods that were deleted, though the cache does not show it yet."""
    view, meta = pod_view(item), item.meta
    phase = view.status.phase
    deleted = bool(meta.deletion_timestamp)
    leaving = deleted or meta.uid in gone
    return JobPod(
        item=item,
        view=view,
        uid=meta.uid,
        index=_index(view) if want.indexed else -1,
        tracked=TRACKING in meta.finalizers,
        succeeded=phase == "Succeeded",
        failed=phase == "Failed" or (deleted and phase != "Succeeded" and not want.only_failed),
        active=not leaving and not view.finished,
        terminating=leaving and not view.finished,
    )


def job_index(item: Item) -> tuple[str, ...]:
    """Index function `job`: uid and key of the Job that manages the pod, unless the pod is both ended and counted."""
    owner = controller_of(item.meta)
    if owner is None or owner.kind != "Job":
        return ()
    if TRACKING not in item.meta.finalizers and pod_view(item).finished:
        return ()
    return (owner.uid, f"{item.meta.namespace}/{owner.name}")


def orphan_index(item: Item) -> tuple[str, ...]:
    """Index function `job-orphan`: for a pod without a manager the uid of the Job that its labels name."""
    uid = item.labels.get(UID_LABEL)
    return (uid,) if uid and controller_of(item.meta) is None else ()


def _index(view: PodView) -> int:
    text = (view.metadata.annotations or {}).get(INDEX, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1


def _count(view: PodView, annotation: str) -> int:
    text = (view.metadata.annotations or {}).get(annotation, "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 11 else 0
    return number if number <= _INT32_MAX else 0


# ── When a pod ended ─────────────────────────────────────────────────────────────────────────────────────


def finished_s(pod: JobPod) -> float:
    """Seconds since the epoch when it ended: by its containers, its readiness, its deletion, else its creation."""
    obj = pod.item.object
    metadata, status = obj["metadata"], obj.get("status") or {}
    by_containers = _containers_finished(obj)
    if by_containers is not None:
        return by_containers
    for condition in status.get("conditions") or ():
        since = condition.get("lastTransitionTime")
        if condition.get("type") == "Ready" and condition.get("status") == "False" and since:
            return seconds(since)
    if metadata.get("deletionTimestamp"):
        return seconds(metadata["deletionTimestamp"]) - (metadata.get("deletionGracePeriodSeconds") or 0)
    return seconds(metadata["creationTimestamp"])


def _containers_finished(pod: Object) -> float | None:
    """The latest end of its containers and sidecars; None when one of them has none."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    sidecars = {c["name"] for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"}
    states = list(status.get("containerStatuses") or ())
    states += [s for s in status.get("initContainerStatuses") or () if s.get("name") in sidecars]
    ends = [((state.get("state") or {}).get("terminated") or {}).get("finishedAt") for state in states]
    known = [seconds(end) for end in ends if end]
    return max(known) if known and len(known) == len(ends) else None


def restarts(pods: Iterable[JobPod]) -> int:
    """How often containers of pods that have not ended were restarted."""
    return sum(
        state.restart_count
        for pod in pods
        if pod.view.status.phase in ("Pending", "Running")
        for states in (pod.view.status.container_statuses, pod.view.status.init_container_statuses)
        for state in states or ()
    )


# ── New pods ─────────────────────────────────────────────────────────────────────────────────────────────


def plain_pod(job: Object) -> Object:
    """A pod of a Job without indexes."""
    pod = new_pod(JOBS, job, job["spec"]["template"])
    metadata = pod["metadata"]
    metadata["finalizers"] = [*metadata.get("finalizers", ()), TRACKING]
    return pod


def indexed_pods(
    job: Object, indexes: Iterable[int], counts: dict[int, tuple[int, int]] | None
) -> list[Object]:
    """A pod for each index. `counts`, given with a limit per index: failures counted and ignored, where not 0."""
    base, name = plain_pod(job), job["metadata"]["name"]
    spec = _with_index_env(base["spec"])
    return [
        {
            **base,
            "metadata": _indexed_metadata(base["metadata"], name, index, counts),
            "spec": {**spec, "hostname": f"{name}-{index}"},
        }
        for index in indexes
    ]


def _indexed_metadata(
    base: Object, name: str, index: int, counts: dict[int, tuple[int, int]] | None
) -> Object:
    annotations = {**base.get("annotations", {}), INDEX: str(index)}
    if counts is not None:
        failures, ignored = counts.get(index, (0, 0))
        annotations[INDEX_FAILURES] = str(failures)
        if ignored:
            annotations[INDEX_IGNORED] = str(ignored)
    suffix = f"-{index}-"
    return {
        **base,
        "generateName": name[: _GENERATED_BASE_MAX - len(suffix)] + suffix,
        "labels": {**base.get("labels", {}), INDEX: str(index)},
        "annotations": annotations,
    }


def _with_index_env(spec: Object) -> Object:
    result = dict(spec)
    for field in ("initContainers", "containers"):
        if spec.get(field):
            result[field] = [_with_env(container) for container in spec[field]]
    return result


def _with_env(container: Object) -> Object:
    env = container.get("env") or []
    if any(entry.get("name") == _INDEX_ENV for entry in env):
        return container
    source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}}
    return {**container, "env": [*env, {"name": _INDEX_ENV, "valueFrom": source}]}
