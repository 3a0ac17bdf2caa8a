"""PodDisruptionBudgets, PriorityClasses, LimitRanges, ResourceQuotas: what bounds pods."""

import pytest

from orchestrator.api.errors import Forbidden


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"minAvailable": "50%", "unhealthyPodEvictionPolicy": "AlwaysAllow"}, []),
        (
            {"minAvailable": 1, "maxUnavailable": 1},
            [
                'spec: Invalid value: {"minAvailable":1,"maxUnavailable":1}: minAvailable and maxUnavailable'
                " cannot be both set"
            ],
        ),
        ({"minAvailable": -1}, ["spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"]),
        (
            {"maxUnavailable": "101%"},
            ['spec.maxUnavailable: Invalid value: "101%": must not be greater than 100%'],
        ),
        (
            {"unhealthyPodEvictionPolicy": "Never"},
            [
                'spec.unhealthyPodEvictionPolicy: Unsupported value: "Never": supported values: "AlwaysAllow",'
                ' "IfHealthyBudget"'
            ],
        ),
        (
            {"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
            [
                "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is"
                " 'In' or 'NotIn'"
            ],
        ),
    ],
)
def test_a_disruption_budget(kind, spec, expected):
    assert kind("policy", "poddisruptionbudgets").problems({"spec": spec}) == expected


def test_the_status_of_a_disruption_budget(kind):
    budgets = kind("policy", "poddisruptionbudgets")
    old = budgets.create({"spec": {"minAvailable": 1}})
    assert old["status"]["disruptionsAllowed"] == 0 and old["metadata"]["generation"] == 1
    good = {
        "type": "DisruptionAllowed",
        "status": "True",
        "reason": "SufficientPods",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    for condition, expected in (
        (good, []),
        ({**good, "status": "Yes"}, ["status.conditions[0].status: Unsupported value"]),
        ({**good, "reason": ""}, ["status.conditions[0].reason: Required value: must be set"]),
        ({**good, "reason": "a b"}, ["status.conditions[0].reason: Invalid value: "]),
        (
            {**good, "lastTransitionTime": None},
            ["status.conditions[0].lastTransitionTime: Required value: must be set"],
        ),
    ):
        new = {**old, "status": {"expectedPods": 1, "conditions": [condition]}}
        found = budgets.update_problems(new, old, "status")
        assert len(found) == len(expected) and all(text in found[0] for text in expected)
    twice = {**old, "status": {"currentHealthy": -1, "conditions": [good, good]}}
    assert budgets.update_problems(twice, old, "status") == [
        'status.conditions[1].type: Duplicate value: "DisruptionAllowed"',
        "status.currentHealthy: Invalid value: -1: must be greater than or equal to 0",
    ]


@pytest.fixture
def classes(kind):
    return kind("scheduling.k8s.io", "priorityclasses")


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("mine", {"value": 1_000_000_000}, ""),
        ("system-node-critical", {"value": 2_000_001_000}, ""),
        (
            "mine",
            {"value": 1_000_000_001},
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ),
        (
            "system-mine",
            {"value": 1},
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only."
            " error: system-mine is not a known system priority class",
        ),
        (
            "system-node-critical",
            {"value": 1},
            "value of system-node-critical PriorityClass must be 2000001000",
        ),
        ("mine", {"preemptionPolicy": "Maybe"}, "preemptionPolicy: Unsupported value"),
    ],
)
def test_a_priority_class(classes, name, fields, expected):
    found = classes.problems({"metadata": {"name": name}, **fields})
    assert len(found) == bool(expected) and (not expected or expected in found[0])


def test_value_and_policy_of_a_priority_class_never_change(classes):
    old = classes.create({"value": 5})
    assert old["preemptionPolicy"] == "PreemptLowerPriority"
    assert classes.update_problems({**old, "description": "x"}, old) == []
    found = classes.update_problems({**old, "value": 6, "preemptionPolicy": "Never"}, old)
    assert found == [
        "value: Forbidden: may not be changed in an update.",
        'preemptionPolicy: Invalid value: "Never": field is immutable',
    ]


async def test_the_place_of_the_default_class_is_claimed(classes):
    new = classes.create({"value": 1, "globalDefault": True})
    strategy = classes.strategy

    async def taken(claim):
        assert claim in strategy.claims(new)
        return True

    with pytest.raises(Forbidden, match="Only one default can exist"):
        await strategy.allocate(new, None, taken)
    assert await strategy.allocate(new, new, taken) is new
    assert strategy.claims({**new, "globalDefault": False}) == frozenset()


@pytest.fixture
def ranges(kind):
    return kind("", "limitranges")


def _limits(*items):
    return {"spec": {"limits": list(items)}}


def test_limits_of_containers_are_derived_from_each_other(ranges):
    item = {
        "type": "Container",
        "max": {"cpu": "2", "memory": "1024Mi"},
        "min": {"ephemeral-storage": "1G"},
        "default": {"cpu": "1500m"},
    }
    (created,) = ranges.create(_limits(item))["spec"]["limits"]
    assert created["default"] == {"cpu": "1500m", "memory": "1Gi"}
    assert created["defaultRequest"] == {"cpu": "1500m", "memory": "1Gi", "ephemeral-storage": "1G"}
    assert ranges.problems(_limits(item)) == []


def test_limits_without_amounts_stay_empty(ranges):
    assert ranges.create(_limits({"type": "Container"}))["spec"]["limits"] == [{"type": "Container"}]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"type": "Disk"}, 'type: Invalid value: "Disk": must be a standard limit type or fully qualified'),
        (
            {"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}, "default": {"cpu": "1"},
             "defaultRequest": {"cpu": "1"}},
            'min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
        ),
        (
            {"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}},
            'defaultRequest[cpu]: Invalid value: "2": default request value 2 is greater than default limit value 1',
        ),
        (
            {"type": "Container", "max": {"cpu": "1"}, "default": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}},
            'default[cpu]: Invalid value: "1": default value 2 is greater than max value 1',
        ),
        ({"type": "Pod", "default": {"cpu": "1"}}, "default: Forbidden: may not be specified when `type` is 'Pod'"),
        ({"type": "Container", "max": {"storage": "1"}}, "must be a standard resource for containers"),
        ({"type": "PersistentVolumeClaim"}, "either minimum or maximum storage value is required"),
        ({"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}}, "ratio 500m is less than 1"),
        (
            {"type": "Pod", "min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "3"}},
            "ratio 3 is greater than max/min = 2.000000",
        ),
        (
            {"type": "Container", "default": {"example.com/gpu": "2"}, "defaultRequest": {"example.com/gpu": "1"}},
            "default value 2 must equal to defaultRequest value 1 in example.com/gpu",
        ),
    ],
)  # fmt: skip
def test_a_fault_of_a_limit_range_is_named(ranges, item, expected):
    found = ranges.problems(_limits(item))
    assert any(text.startswith("spec.limits[0].") and expected in text for text in found), found


def test_a_type_is_limited_once(ranges):
    found = ranges.problems(_limits({"type": "Pod"}, {"type": "Pod"}))
    assert found == ['spec.limits[1].type: Duplicate value: "Pod"']


@pytest.fixture
def quotas(kind):
    return kind("", "resourcequotas")


@pytest.mark.parametrize(
    "hard",
    [
        {"cpu": "1", "requests.storage": "1Gi", "count/deployments.apps": "4", "services.nodeports": "0"},
        {"requests.nvidia.com/gpu": "4", "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"},
        {"requests.hugepages-2Mi": "4Mi"},
    ],
)
def test_quotas_of_what_there_is(quotas, hard):
    assert quotas.problems({"spec": {"hard": hard}}) == []


def _in(scope, operator, *values):
    return {
        "scopeSelector": {
            "matchExpressions": [{"scopeName": scope, "operator": operator, "values": list(values)}]
        }
    }


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"hard": {"disk": "1"}},
            'spec.hard[disk]: Invalid value: "disk": must be a standard resource for quota',
        ),
        ({"hard": {"cpu": "-1"}}, 'spec.hard[cpu]: Invalid value: "-1": must be greater than or equal to 0'),
        ({"hard": {"pods": "500m"}}, 'spec.hard[pods]: Invalid value: "500m": must be an integer'),
        ({"scopes": ["Sometimes"]}, 'spec.scopes: Invalid value: ["Sometimes"]: unsupported scope'),
        ({"scopes": ["BestEffort"], "hard": {"cpu": "1"}}, "unsupported scope applied to resource"),
        ({"scopes": ["BestEffort", "NotBestEffort"]}, "conflicting scopes"),
        (_in("BestEffort", "In", "x"), "must be 'Exists' when scope is any of"),
        (_in("PriorityClass", "In"), "must be at least one value when `operator` is 'In' or 'NotIn'"),
        (
            _in("PriorityClass", "Exists", "x"),
            "must be no value when `operator` is 'Exist' or 'DoesNotExist'",
        ),
        (_in("PriorityClass", "Near"), "not a valid selector operator"),
        (_in("PriorityClass", "In", "high"), ""),
        ({"scopes": ["Terminating"], "hard": {"pods": "1", "limits.cpu": "1"}}, ""),
    ],
)
def test_a_quota(quotas, spec, expected):
    found = quotas.problems({"spec": spec})
    assert any(expected in text for text in found) if expected else found == [], found


def test_the_scopes_of_a_quota_never_change(quotas):
    old = quotas.create({"spec": {"scopes": ["Terminating"], "hard": {"pods": "1"}}})
    new = {**old, "spec": {"scopes": ["NotTerminating"], "hard": {"pods": "2"}}}
    assert quotas.update_problems(new, old) == [
        'spec.scopes: Invalid value: ["NotTerminating"]: field is immutable'
    ]
    assert quotas.update_problems({**old, "status": {"used": {"disk": "1"}}}, old, "status") != []
