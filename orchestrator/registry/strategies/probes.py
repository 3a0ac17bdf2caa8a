"""Validation of probes and lifecycle hooks. Pure; called by `containers`."""

import re
from typing import Any

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes

_PROBE_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")
_COUNTS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_SCHEMES = ("HTTP", "HTTPS")
_match_header = re.compile(r"[-A-Za-z0-9]+").fullmatch
_HEADER_RULE = (
    "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for"
    " validation is '[-A-Za-z0-9]+')"
)
_SIGNALS = (
    "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO",
    "SIGIOT", "SIGKILL", "SIGPIPE", "SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGRTMAX", "SIGRTMIN", "SIGSEGV",
    "SIGSTKFLT", "SIGSTOP", "SIGSYS", "SIGTERM", "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1",
    "SIGUSR2", "SIGVTALRM", "SIGWINCH", "SIGXCPU", "SIGXFSZ",
)  # fmt: skip
_match_signal = re.compile(
    rf"{'|'.join(_SIGNALS)}|SIGRTMIN\+([1-9]|1[0-5])|SIGRTMAX-([1-9]|1[0-4])"
).fullmatch


def validate_probe(probe: Object, field: str, kind: str, grace_period_s: int) -> list[Cause]:
    """`kind` is `livenessProbe`, `readinessProbe` or `startupProbe`; `grace_period_s` the pod's."""
    found = _validate_handler(probe, field, _PROBE_HANDLERS, grace_period_s)
    for name in _COUNTS:
        value = probe.get(name)
        if value is not None and value < 0:
            found += causes.non_negative(f"{field}.{name}", value)
    grace = probe.get("terminationGracePeriodSeconds")
    if kind == "readinessProbe":
        if grace is not None:
            found.append(
                causes.invalid_value(
                    f"{field}.terminationGracePeriodSeconds", grace, "must not be set for readinessProbes"
                )
            )
        return found
    if probe.get("successThreshold", 1) != 1:
        found.append(
            causes.invalid_value(f"{field}.successThreshold", probe["successThreshold"], "must be 1")
        )
    if grace is not None and grace <= 0:
        found.append(
            causes.invalid_value(f"{field}.terminationGracePeriodSeconds", grace, "must be greater than 0")
        )
    return found


def validate_lifecycle(lifecycle: Object, field: str, grace_period_s: int, os: str | None) -> list[Cause]:
    """`grace_period_s` and `os` are those of the pod."""
    found: list[Cause] = []
    for name in ("postStart", "preStop"):
        handler = lifecycle.get(name)
        if handler is not None:
            found += _validate_handler(handler, f"{field}.{name}", _HOOK_HANDLERS, grace_period_s)
    signal = lifecycle.get("stopSignal")
    if signal is not None:
        found += _validate_signal(signal, f"{field}.stopSignal", os)
    return found


def _validate_signal(signal: str, field: str, os: str | None) -> list[Cause]:
    """A stop signal means something only where the system is known."""
    if not os:
        return [causes.forbidden(field, "may not be set for containers with empty `spec.os.name`")]
    if os == "windows":
        return causes.one_of(field, signal, ("SIGKILL", "SIGTERM"))
    return [] if _match_signal(signal) else [causes.not_supported(field, signal, _SIGNALS)]


def _validate_handler(
    handler: Object, field: str, kinds: tuple[str, ...], grace_period_s: int
) -> list[Cause]:
    given = [kind for kind in kinds if handler.get(kind) is not None]
    if not given:
        return [causes.required(field, "must specify a handler type")]
    found = [
        causes.forbidden(f"{field}.{kind}", "may not specify more than 1 handler type") for kind in given[1:]
    ]
    kind, action = given[0], handler[given[0]]
    path = f"{field}.{kind}"
    if kind == "exec":
        if not action.get("command"):
            found.append(causes.required(f"{path}.command"))
    elif kind == "httpGet":
        found += _validate_http(action, path)
    elif kind in ("tcpSocket", "grpc"):
        found += _validate_port(action.get("port"), f"{path}.port")
    elif not 0 <= action.get("seconds", 0) <= grace_period_s:
        text = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_period_s})"
        found.append(causes.invalid_value(path, action["seconds"], text))
    return found


def _validate_http(action: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    if not action.get("path"):
        found.append(causes.required(f"{field}.path"))
    found += _validate_port(action.get("port"), f"{field}.port")
    found += causes.one_of(f"{field}.scheme", action.get("scheme"), _SCHEMES)
    for header in action.get("httpHeaders") or ():
        name = header.get("name") or ""
        if not _match_header(name):
            found.append(causes.invalid_value(f"{field}.httpHeaders", name, _HEADER_RULE))
    return found


def _validate_port(port: Any, field: str) -> list[Cause]:
    if isinstance(port, str):
        return causes.problems(field, port, names.is_port_name(port))
    if port is None:
        return [causes.required(field)]
    return [] if 1 <= port <= 65535 else causes.problems(field, port, names.is_port_number(port))
