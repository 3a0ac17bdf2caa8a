"""CronJobs.

Rules:
1. The schedule is a line of cron (`api.cron`) without a time zone in it; the zone is a field, and one that exists.
2. Jobs are named after it with eleven characters more, so a new one's name has at most 52.
3. The template of its Jobs is a Job's spec whose selector is left to be generated.
"""

import re
import zoneinfo

from orchestrator.api import cron
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import filled
from orchestrator.registry.strategies.job_rules import validate_job_spec
from orchestrator.registry.strategies.jobs import default_failure_policy, job_warnings
from orchestrator.registry.strategies.pod_defaults import default_template
from orchestrator.registry.strategies.pod_warnings import template_warnings
from orchestrator.registry.strategies.workload_rules import (
    WorkloadStrategy,
    non_negatives,
)

_NAME_BYTES_MAX = 52
_SPEC: Object = {
    "concurrencyPolicy": "Allow", "suspend": False, "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1,
}  # fmt: skip
_POLICIES = ("Allow", "Forbid", "Replace")
_match_zone_part = re.compile(r"[A-Za-z._0-9+][A-Za-z.\-_0-9+]{0,13}").fullmatch


class CronJobStrategy(WorkloadStrategy):
    needs_template = False
    names_pods = True

    def default_spec(self, spec: Object) -> Object:
        template: Object = spec.get("jobTemplate") or {}
        job = default_failure_policy(template.get("spec") or {})
        job = {**job, "template": default_template({"spec": {}, **(job.get("template") or {})})}
        return {**filled(spec, _SPEC), "jobTemplate": {**template, "spec": job}}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        found = super().validate_object(new, old)
        name = new["metadata"].get("name") or ""
        if old is None and len(name) > _NAME_BYTES_MAX:
            text = f"must be no more than {_NAME_BYTES_MAX} characters"
            found.append(causes.invalid_value("metadata.name", name, text))
        return found

    def validate_spec(self, spec: Object, old: Object | None) -> list[Cause]:
        found = _validate_schedule(spec, old)
        found += non_negatives(spec, ("startingDeadlineSeconds",))
        if old is None or spec.get("timeZone") != old.get("timeZone"):
            found += _validate_zone(spec.get("timeZone"), "spec.timeZone")
        found += causes.one_of("spec.concurrencyPolicy", spec["concurrencyPolicy"], _POLICIES)
        found += _validate_template(spec.get("jobTemplate") or {}, "spec.jobTemplate.spec")
        return found + non_negatives(spec, ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"))

    def spec_warnings(self, spec: Object) -> list[str]:
        job = (spec.get("jobTemplate") or {}).get("spec") or {}
        field = "spec.jobTemplate.spec"
        found = job_warnings(job, field) + template_warnings(job.get("template"), f"{field}.template")
        if "TZ" in (spec.get("schedule") or ""):
            found.append(
                "spec.schedule: cannot use TZ or CRON_TZ in spec.schedule, use spec.timeZone instead"
            )
        return found


def _validate_schedule(spec: Object, old: Object | None) -> list[Cause]:
    """A zone inside the schedule is only left where it has always been."""
    schedule, field = spec.get("schedule") or "", "spec.schedule"
    if not schedule:
        return [causes.required(field)]
    found: list[Cause] = []
    try:
        cron.parse(schedule)
    except cron.CronError as error:
        found.append(causes.invalid_value(field, schedule, str(error)))
    if "TZ" not in schedule:
        return found
    if "TZ" not in ((old or {}).get("schedule") or ""):
        text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        found.append(causes.invalid_value(field, schedule, text))
    elif spec.get("timeZone") is not None:
        text = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        found.append(causes.invalid_value(field, schedule, text))
    return found


def _validate_zone(zone: str | None, field: str) -> list[Cause]:
    if zone is None:
        return []
    if not zone:
        return [causes.invalid_value(field, zone, "timeZone must be nil or non-empty string")]
    if any(part in (".", "..") or not _match_zone_part(part) for part in zone.split("/")):
        return [causes.invalid_value(field, zone, f"unknown time zone {zone}")]
    if zone.lower() == "local":
        text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        found = [causes.invalid_value(field, zone, text)]
        return found if zone == "Local" else [*found, _unknown_zone(zone, field)]
    try:
        zoneinfo.ZoneInfo(zone)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        return [_unknown_zone(zone, field)]
    return []


def _unknown_zone(zone: str, field: str) -> Cause:
    return causes.invalid_value(field, zone, f"unknown time zone {zone}")


def _validate_template(template: Object, field: str) -> list[Cause]:
    spec = template.get("spec") or {}
    found = validate_job_spec(spec, field)
    if spec.get("selector") is not None:
        text = "`selector` will be auto-generated"
        found.append(causes.invalid_value(f"{field}.selector", spec["selector"], text))
    if spec.get("manualSelector"):
        found.append(causes.not_supported(f"{field}.manualSelector", True, ("nil", "false")))
    return found
