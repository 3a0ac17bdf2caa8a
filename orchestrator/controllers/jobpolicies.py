"""What a Job's policies say: of a failed pod, of the indexes that succeeded, of when to try again. Pure.

Back-off: the first pod that replaces a failed one waits 10 s, each further failure in a row doubles it, up to
10 minutes; a success after them starts anew. With a limit per index each index waits for itself.
"""

from dataclasses import dataclass

from orchestrator.api import job_indexes
from orchestrator.api.item import Object
from orchestrator.api.job_indexes import Interval
from orchestrator.controllers.jobpods import JobPod, finished_s

BACKOFF_S, BACKOFF_MAX_S = 10.0, 600.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says of a failure. `action` is empty where no rule matched: it counts."""

    action: str
    message: str = ""
    """Of FailJob: why the Job failed."""

    @property
    def counts(self) -> bool:
        return self.action != "Ignore"


_NO_RULE = Verdict("")


def judge(rules: list[Object] | None, pod: JobPod) -> Verdict:
    """By the first rule that matches the failed pod. `rules` of None: there is no policy."""
    for position, rule in enumerate(rules or ()):
        if rule.get("onExitCodes"):
            what = _exit_code(pod.item.object, rule["onExitCodes"])
        else:
            what = _condition(pod.item.object, rule.get("onPodConditions") or ())
        if what:
            message = f"{what} matching {rule['action']} rule at index {position}"
            return Verdict(rule["action"], message)
    return _NO_RULE


def _exit_code(pod: Object, requirement: Object) -> str:
    name, values = requirement.get("containerName"), requirement.get("values") or ()
    status, meta = pod.get("status") or {}, pod["metadata"]
    for field in ("containerStatuses", "initContainerStatuses"):
        for state in status.get(field) or ():
            ended = (state.get("state") or {}).get("terminated")
            if not ended or (name is not None and state.get("name") != name):
                continue
            code = ended.get("exitCode", 0)
            if code and (code in values) == (requirement.get("operator") == "In"):
                where = f"{meta['namespace']}/{meta['name']}"
                return f"Container {state.get('name')} for pod {where} failed with exit code {code}"
    return ""


def _condition(pod: Object, patterns: list[Object] | tuple[()]) -> str:
    meta = pod["metadata"]
    for condition in (pod.get("status") or {}).get("conditions") or ():
        for pattern in patterns:
            if condition.get("type") == pattern["type"] and condition.get("status") == pattern.get("status"):
                return f"Pod {meta['namespace']}/{meta['name']} has condition {condition['type']}"
    return ""


def success_message(policy: Object | None, completions: int, succeeded: list[Interval]) -> str:
    """Which rule of the success policy the indexes that succeeded meet; empty for none."""
    for position, rule in enumerate((policy or {}).get("rules") or () if succeeded else ()):
        if _meets(rule, completions, succeeded):
            return f"Matched rules at index {position}"
    return ""


def _meets(rule: Object, completions: int, succeeded: list[Interval]) -> bool:
    number = rule.get("succeededCount")
    if rule.get("succeededIndexes") is None:
        return number is not None and job_indexes.count(succeeded) >= number
    required = job_indexes.known(rule["succeededIndexes"], completions)
    if not required:
        return False
    found = job_indexes.shared(required, succeeded)
    return found == job_indexes.count(required) or (number is not None and found >= number)


# ── Back-off ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Failures:
    """Failures since the last success."""

    number: int = 0
    last_s: float = 0.0

    def wait_s(self, now_s: float) -> float:
        """Seconds until another pod may be made."""
        if not self.number:
            return 0.0
        delay_s = min(BACKOFF_MAX_S, BACKOFF_S * 2.0 ** min(self.number - 1, 30))
        return max(0.0, self.last_s + delay_s - now_s)


def failures_after(before: Failures, succeeded: list[JobPod], failed: list[JobPod]) -> Failures:
    """`before` and the pods that ended since."""
    if not succeeded and not failed:
        return before
    ends = sorted(finished_s(pod) for pod in failed)
    if not succeeded:
        return Failures(before.number + len(ends), ends[-1])
    last_success_s = max(finished_s(pod) for pod in succeeded) if ends else 0.0
    ends = [end for end in ends if end > last_success_s]
    return Failures(len(ends), ends[-1]) if ends else Failures()


def index_wait_s(failed: JobPod | None, now_s: float) -> float:
    """Seconds until the pod that replaces `failed` within its index may be made."""
    if failed is None:
        return 0.0
    return Failures(failed.index_failures + failed.index_ignored + 1, finished_s(failed)).wait_s(now_s)
