"""The rows of workloads beyond Deployments and ReplicaSets: sets, Jobs, and what schedules and bounds them."""

from typing import Any

from orchestrator.api.item import Object
from orchestrator.api.printing.columns import (
    AGE,
    CONTAINERS,
    IMAGES,
    NAME,
    NONE,
    SELECTOR,
    Column,
    Printer,
    age_of,
    map_text,
    name_of,
    part,
    selector_text,
    template_cells,
)
from orchestrator.api.printing.duration import age, human_duration, seconds_of


def _integer(name: str, description: str) -> Column:
    return Column(name, description, type="integer")


def _statefulset_cells(statefulset: Object, now_s: float) -> list[Any]:
    spec, status = part(statefulset, "spec"), part(statefulset, "status")
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    return [name_of(statefulset), ready, age_of(statefulset, now_s), *template_cells(spec)]


_STATEFULSETS = Printer(
    (NAME, Column("Ready", "Ready pods out of those wanted"), AGE, CONTAINERS, IMAGES), _statefulset_cells
)


def _scale_cells(scale: Object, now_s: float) -> list[Any]:
    desired, available = part(scale, "spec").get("replicas", 0), part(scale, "status").get("replicas", 0)
    return [name_of(scale), desired, available, age_of(scale, now_s)]


_SCALES = Printer(
    (NAME, _integer("Desired", "Replicas that are wanted"), _integer("Available", "Replicas there are"), AGE),
    _scale_cells,
)


def _daemonset_cells(daemonset: Object, now_s: float) -> list[Any]:
    spec, status = part(daemonset, "spec"), part(daemonset, "status")
    counters = (
        "desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled",
        "numberAvailable",
    )  # fmt: skip
    return [
        name_of(daemonset),
        *(status.get(name, 0) for name in counters),
        map_text(part(part(spec, "template"), "spec").get("nodeSelector")),
        age_of(daemonset, now_s),
        *template_cells(spec),
        selector_text(spec.get("selector")),
    ]


_DAEMONSETS = Printer(
    (
        NAME,
        _integer("Desired", "Nodes that should run a pod of it"),
        _integer("Current", "Nodes that run at least one and should"),
        _integer("Ready", "Nodes on which a pod is ready"),
        _integer("Up-to-date", "Nodes whose pod has the newest template"),
        _integer("Available", "Nodes whose pod has been ready for long enough"),
        Column("Node Selector", "Labels of the nodes that are chosen"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    _daemonset_cells,
)


def _controller_cells(controller: Object, now_s: float) -> list[Any]:
    spec, status = part(controller, "spec"), part(controller, "status")
    return [
        name_of(controller),
        spec.get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        age_of(controller, now_s),
        *template_cells(spec),
        map_text(spec.get("selector")),
    ]


_REPLICATIONCONTROLLERS = Printer(
    (
        NAME,
        _integer("Desired", "Pods wanted"),
        _integer("Current", "Pods that exist"),
        _integer("Ready", "Pods that are ready"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    _controller_cells,
)


def _template_cells(template: Object, now_s: float) -> list[Any]:
    labels = part(part(template, "template"), "metadata").get("labels")
    return [name_of(template), *template_cells(template), map_text(labels)]


_PODTEMPLATES = Printer(
    (
        NAME,
        Column("Containers", "Names of the containers in the template"),
        Column("Images", "Images of the containers in the template"),
        Column("Pod Labels", "Labels of the template's pods"),
    ),
    _template_cells,
)


# ── Jobs ─────────────────────────────────────────────────────────────────────────────────────────────────

_JOB_STATES = (("Complete", "Complete"), ("Failed", "Failed"))
_RUNNING_STATES = (("Suspended", "Suspended"), ("FailureTarget", "FailureTarget"))


def _job_cells(job: Object, now_s: float) -> list[Any]:
    spec = part(job, "spec")
    return [
        name_of(job),
        _job_state(job),
        _completions(job),
        _job_duration(part(job, "status"), now_s),
        age_of(job, now_s),
        *template_cells(spec),
        selector_text(spec.get("selector")),
    ]


def _job_state(job: Object) -> str:
    conditions = part(job, "status").get("conditions") or ()
    true = {condition.get("type") for condition in conditions if condition.get("status") == "True"}
    for name, state in _JOB_STATES:
        if name in true:
            return state
    if job["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return next((state for name, state in _RUNNING_STATES if name in true), "Running")


def _completions(job: Object) -> str:
    spec, succeeded = part(job, "spec"), part(job, "status").get("succeeded", 0)
    if spec.get("completions") is not None:
        return f"{succeeded}/{spec['completions']}"
    parallelism = spec.get("parallelism") or 0
    return f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"


def _job_duration(status: Object, now_s: float) -> str:
    start_s = seconds_of(status.get("startTime"))
    if start_s is None:
        return ""
    end_s = seconds_of(status.get("completionTime"))
    return human_duration((now_s if end_s is None else end_s) - start_s)


_JOBS = Printer(
    (
        NAME,
        Column("Status", "Whether the Job runs or how it ended"),
        Column("Completions", "Pods that succeeded out of those wanted"),
        Column("Duration", "How long the Job has run"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    _job_cells,
)


def _cronjob_cells(cronjob: Object, now_s: float) -> list[Any]:
    spec, status = part(cronjob, "spec"), part(cronjob, "status")
    job = part(part(spec, "jobTemplate"), "spec")
    suspend, last = spec.get("suspend"), status.get("lastScheduleTime")
    return [
        name_of(cronjob),
        spec.get("schedule", ""),
        spec.get("timeZone") or NONE,
        "<unset>" if suspend is None else str(bool(suspend)),
        len(status.get("active") or ()),
        age(last, now_s) if last else NONE,
        age_of(cronjob, now_s),
        *template_cells(job),
        NONE if job.get("selector") is None else selector_text(job["selector"]),
    ]


_CRONJOBS = Printer(
    (
        NAME,
        Column("Schedule", "When Jobs are started"),
        Column("Timezone", "Time zone of the schedule"),
        Column("Suspend", "Whether no Jobs are started", type="boolean"),
        _integer("Active", "Jobs that run"),
        Column("Last Schedule", "Time since a Job was started"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    _cronjob_cells,
)

PRINTERS: dict[tuple[str, str], Printer] = {
    ("", "podtemplates"): _PODTEMPLATES,
    ("", "replicationcontrollers"): _REPLICATIONCONTROLLERS,
    ("apps", "daemonsets"): _DAEMONSETS,
    ("apps", "statefulsets"): _STATEFULSETS,
    ("autoscaling", "scales"): _SCALES,
    ("batch", "cronjobs"): _CRONJOBS,
    ("batch", "jobs"): _JOBS,
}
