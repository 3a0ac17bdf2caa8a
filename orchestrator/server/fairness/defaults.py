"""The FlowSchemas and PriorityLevelConfigurations that every cluster has, as tables. Source: Kubernetes v1.36.

Mandatory ones are always as they stand here; suggested ones follow unless an operator took them over (see
`assembly.fairness`, which writes them). `Fairness` starts with them, before any object is read.
"""

from typing import Any

from orchestrator.api.item import Object

AUTOUPDATE = "apf.kubernetes.io/autoupdate-spec"
MANDATORY = frozenset({"exempt", "catch-all"})
"""Names of the mandatory objects, of both kinds."""

_API_VERSION = "flowcontrol.apiserver.k8s.io/v1"

_LEVELS: tuple[tuple[str, int, int, tuple[int, int, int] | None], ...] = (
    ("catch-all", 5, 0, None),
    ("global-default", 20, 50, (128, 6, 50)),
    ("leader-election", 10, 0, (16, 4, 50)),
    ("node-high", 40, 25, (64, 6, 50)),
    ("system", 30, 33, (64, 6, 50)),
    ("workload-high", 40, 50, (128, 6, 50)),
    ("workload-low", 100, 90, (128, 6, 50)),
)
"""Name, shares, lendable percent; queues, hand size and queue length, None to refuse at once."""

_Subjects = tuple[tuple[str, str], ...]
_KUBE_SYSTEM: _Subjects = (("ServiceAccount", "*"),)
_ALL_GROUPS: _Subjects = (("Group", "system:unauthenticated"), ("Group", "system:authenticated"))
_MANAGER: _Subjects = (("User", "system:kube-controller-manager"),)
_SCHEDULER: _Subjects = (("User", "system:kube-scheduler"),)
_NODES: _Subjects = (("Group", "system:nodes"),)

_ELECTING = ("get", "create", "update")
_COORDINATION = "coordination.k8s.io"


def _rule(
    verbs: tuple[str, ...], group: str, resources: tuple[str, ...], *, cluster_scope: bool = False
) -> Object:
    rule: Object = {"verbs": list(verbs), "apiGroups": [group], "resources": list(resources)}
    if cluster_scope:
        rule["clusterScope"] = True
    return {**rule, "namespaces": ["*"]}


_EVERYTHING = {
    "resourceRules": [_rule(("*",), "*", ("*",), cluster_scope=True)],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
}
_LEASES = _rule(_ELECTING, _COORDINATION, ("leases",))
_PROBES = {"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]}

_SCHEMAS: tuple[tuple[str, str, int, str, _Subjects, dict[str, Any]], ...] = (
    ("exempt", "exempt", 1, "", (("Group", "system:masters"),), _EVERYTHING),
    ("probes", "exempt", 2, "", _ALL_GROUPS, _PROBES),
    ("system-leader-election", "leader-election", 100, "ByUser", (*_MANAGER, *_SCHEDULER, *_KUBE_SYSTEM),
     {"resourceRules": [_LEASES]}),
    ("endpoint-controller", "workload-high", 150, "ByUser",
     (*_MANAGER, ("ServiceAccount", "endpoint-controller"),
      ("ServiceAccount", "endpointslicemirroring-controller")),
     {"resourceRules": [_rule(_ELECTING, "", ("endpoints",))]}),
    ("workload-leader-election", "leader-election", 200, "ByUser", _KUBE_SYSTEM,
     {"resourceRules": [_rule(_ELECTING, "", ("endpoints", "configmaps")), _LEASES]}),
    ("system-node-high", "node-high", 400, "ByUser", _NODES,
     {"resourceRules": [_rule(("*",), "", ("nodes", "nodes/status"), cluster_scope=True),
                        _rule(("*",), _COORDINATION, ("leases",))]}),
    ("system-nodes", "system", 500, "ByUser", _NODES, _EVERYTHING),
    ("kube-controller-manager", "workload-high", 800, "ByNamespace", _MANAGER, _EVERYTHING),
    ("kube-scheduler", "workload-high", 800, "ByNamespace", _SCHEDULER, _EVERYTHING),
    ("kube-system-service-accounts", "workload-high", 900, "ByNamespace", _KUBE_SYSTEM, _EVERYTHING),
    ("service-accounts", "workload-low", 9000, "ByUser", (("Group", "system:serviceaccounts"),), _EVERYTHING),
    ("global-default", "global-default", 9900, "ByUser", _ALL_GROUPS, _EVERYTHING),
    ("catch-all", "catch-all", 10000, "ByUser", _ALL_GROUPS, _EVERYTHING),
)  # fmt: skip
"""Name, priority level, precedence, distinguisher, subjects (accounts are those of kube-system), rules."""


def priority_levels() -> list[Object]:
    """Every default PriorityLevelConfiguration."""
    exempt = {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}
    specs = {"exempt": exempt, **{name: _limited(*facts) for name, *facts in _LEVELS}}  # type: ignore[arg-type]
    return [_object("PriorityLevelConfiguration", name, spec) for name, spec in specs.items()]


def flow_schemas() -> list[Object]:
    """Every default FlowSchema."""
    return [_object("FlowSchema", name, _schema(*facts)) for name, *facts in _SCHEMAS]  # type: ignore[arg-type]


def _limited(shares: int, lendable: int, queuing: tuple[int, int, int] | None) -> Object:
    response: Object = {"type": "Reject"}
    if queuing is not None:
        queues, hand, length = queuing
        response = {
            "type": "Queue",
            "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length},
        }
    limited = {"nominalConcurrencyShares": shares, "limitResponse": response, "lendablePercent": lendable}
    return {"type": "Limited", "limited": limited}


def _schema(
    level: str, precedence: int, distinguisher: str, subjects: _Subjects, rules: dict[str, Any]
) -> Object:
    spec: Object = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence}
    if distinguisher:
        spec["distinguisherMethod"] = {"type": distinguisher}
    return {**spec, "rules": [{"subjects": [_subject(*subject) for subject in subjects], **rules}]}


def _subject(kind: str, name: str) -> Object:
    if kind == "ServiceAccount":
        return {"kind": kind, "serviceAccount": {"namespace": "kube-system", "name": name}}
    return {"kind": kind, kind.lower(): {"name": name}}


def _object(kind: str, name: str, spec: Object) -> Object:
    metadata = {"name": name, "annotations": {AUTOUPDATE: "true"}}
    return {"apiVersion": _API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
