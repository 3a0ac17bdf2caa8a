"""The scheduler's profiles from a KubeSchedulerConfiguration, as users of Kubernetes have one.

Read are `profiles[].schedulerName`, `plugins.{multiPoint,preFilter,filter,postFilter,score}.{enabled,disabled}` (a
name of `*` means every plugin; one that is disabled at one point still works at the others) and `pluginConfig`. A
plugin that Kubernetes does not have is looked for among the entry points `orchestrator.scheduler` of installed
packages. What else a configuration says has no meaning here.
"""

from pathlib import Path
from typing import Any

import yaml

from orchestrator.base.errors import StartupError
from orchestrator.scheduler.profiles import FILTERS, PREEMPTION, WEIGHTS, Profile, ProfileError, plugins_of
from orchestrator.scheduler.rules.infos import DEFAULT_SCHEDULER

_POINTS = ("multiPoint", "preFilter", "filter", "postFilter", "preScore", "score")
_FILTERING = ("multiPoint", "preFilter", "filter")
_SCORING = ("multiPoint", "preScore", "score")
_WHOLE = ("multiPoint", "postFilter")
_KIND = "KubeSchedulerConfiguration"


def profiles_from(path: str) -> tuple[Profile, ...]:
    """The profiles of the file, or the default one without a path. Raises `StartupError`."""
    if not path:
        return (Profile(),)
    try:
        found = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise StartupError(
            f"{path} can't be read: {error}", "Name a KubeSchedulerConfiguration in YAML."
        ) from error
    if not isinstance(found, dict) or found.get("kind") != _KIND:
        raise StartupError(f"{path} is no {_KIND}.", f"Write kind: {_KIND}.")
    try:
        entries: list[dict[str, Any]] = found.get("profiles") or [{}]
        profiles = tuple(profile_of(entry) for entry in entries)
        names = [profile.name for profile in profiles]
        if len(set(names)) < len(names):
            raise ProfileError("two profiles have the same schedulerName")
        for profile in profiles:
            plugins_of(profile)
    except (ProfileError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise StartupError(
            f"{path}: {error}", "See the KubeSchedulerConfiguration of Kubernetes v1.36."
        ) from error
    return profiles


def profile_of(entry: dict[str, Any]) -> Profile:
    """One entry of `profiles`. Raises what a wrong type raises."""
    disabled: set[str] = set()
    unfiltered: set[str] = set()
    weights: dict[str, int] = {}
    for point in _POINTS:
        section = (entry.get("plugins") or {}).get(point) or {}
        for plugin in section.get("disabled") or ():
            names = (*FILTERS, *WEIGHTS, PREEMPTION) if plugin["name"] == "*" else (plugin["name"],)
            if point in _FILTERING:
                unfiltered.update(names)
            if point in _SCORING:
                weights |= dict.fromkeys(names, 0)
            if point in _WHOLE:
                disabled.update(names if point == "multiPoint" else {PREEMPTION}.intersection(names))
        for plugin in section.get("enabled") or ():
            disabled.discard(plugin["name"])
            if point in _FILTERING:
                unfiltered.discard(plugin["name"])
            if point in _SCORING or plugin["name"] not in FILTERS:
                weights[plugin["name"]] = int(plugin.get("weight") or WEIGHTS.get(plugin["name"], 1))
    args = {each["name"]: each.get("args") or {} for each in entry.get("pluginConfig") or ()}
    name = entry.get("schedulerName") or DEFAULT_SCHEDULER
    return Profile(name, frozenset(disabled), frozenset(unfiltered), weights, args)
