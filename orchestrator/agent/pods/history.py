"""What the past of a pod's containers means: which are final, which are to be made anew, what is initialised. Pure.

Called by `plan` and by what shows its view (`status`). Source: the restart policies of Kubernetes v1.36.
"""

from orchestrator.agent import podspec
from orchestrator.agent.pods.observed import Observed
from orchestrator.api.item import Object
from orchestrator.runtime.interface import Container

RESTART_ALL = "RestartAllContainers"


def is_done(pod: Object, seen: Observed) -> bool:
    """Whether no regular container will ever run again."""
    if failed_init(pod, seen) is not None:
        return True
    finals = [is_final(pod, seen, spec) for spec in podspec.containers(pod)]
    return bool(finals) and all(finals)


def failed_init(pod: Object, seen: Observed) -> Container | None:
    """The init container whose failure ends the pod, if there is one."""
    for spec in podspec.init_containers(pod):
        container = seen.newest(spec["name"])
        if container is None or container.state != "exited" or container.exit_code == 0:
            continue
        if is_past(pod, seen, container):
            continue
        if not podspec.is_sidecar(spec) and not restarts(pod, spec, container):
            return container
    return None


def restarts(pod: Object, spec: Object, container: Container) -> bool:
    """Whether a container is started again after this end: by its own rules and policy, else by the pod's."""
    return restarts_after(pod, spec, container.exit_code)


def restarts_after(pod: Object, spec: Object, exit_code: int) -> bool:
    """As `restarts`, for an end with this exit code."""
    if podspec.is_ephemeral(pod, spec["name"]):
        return False
    once = podspec.is_init(pod, spec["name"]) and not podspec.is_sidecar(spec)
    if once and exit_code == 0:
        return False
    if _action(spec, exit_code):
        return True
    policy = spec.get("restartPolicy") or podspec.restart_policy(pod)
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def _action(spec: Object, exit_code: int) -> str:
    """What the first of the container's rules that knows this exit code says; empty when none does."""
    for rule in spec.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes") or {}
        if (exit_code in (codes.get("values") or ())) == (codes.get("operator") == "In"):
            return str(rule.get("action"))
    return ""


def is_past(pod: Object, seen: Observed, container: Container) -> bool:
    """Whether a rule said RestartAllContainers after this container was made: it is to be made anew."""
    ends = [
        ended
        for spec in (*podspec.init_containers(pod), *podspec.containers(pod))
        if any(rule.get("action") == RESTART_ALL for rule in spec.get("restartPolicyRules") or ())
        for ended in seen.containers.get(spec["name"], ())
        if ended.state == "exited" and _action(spec, ended.exit_code) == RESTART_ALL
    ]
    return any(container.id == ended.id or container.created_s < ended.finished_s for ended in ends)


def current(pod: Object, seen: Observed, name: str) -> Container | None:
    """The container's last incarnation, if it belongs to the newest sandbox and is not to be made anew."""
    container = seen.in_sandbox(name)
    return None if container is None or is_past(pod, seen, container) else container


def inits_done(pod: Object, seen: Observed) -> bool:
    """Whether every init container of the current sandbox has done its part; a sidecar has begun to run."""
    if any(current(pod, seen, spec["name"]) for spec in podspec.containers(pod)):
        return True
    return all(
        (podspec.is_sidecar(spec) and current(pod, seen, spec["name"]) is not None)
        or succeeded(current(pod, seen, spec["name"]))
        for spec in podspec.init_containers(pod)
    )


def is_final(pod: Object, seen: Observed, spec: Object) -> bool:
    container = seen.newest(spec["name"])
    if container is None:
        code = lost_exit_code(pod, spec["name"])
        return code is not None and not restarts_after(pod, spec, code)
    if container.state != "exited" or restarts(pod, spec, container) or container.id in seen.renewed:
        return False
    return not is_past(pod, seen, container)


def lost_exit_code(pod: Object, name: str) -> int | None:
    """How a container ended that the engine does not have any more; None when it was not known to have ended."""
    ended = (podspec.written_status(pod, name).get("state") or {}).get("terminated")
    return int(ended["exitCode"]) if ended else None


def succeeded(container: Container | None) -> bool:
    return container is not None and container.state == "exited" and container.exit_code == 0
