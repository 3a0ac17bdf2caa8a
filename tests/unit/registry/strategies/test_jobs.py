"""Jobs: the generated selector, defaults, what may change, policies, status."""

import pytest

UID = "7b1c"


def job(pod=None, name="j", **spec):
    template = {
        "spec": {"containers": [{"name": "a", "image": "b"}], "restartPolicy": "Never", **(pod or {})}
    }
    return {"metadata": {"name": name, "uid": UID}, "spec": {"template": template, **spec}}


@pytest.fixture
def jobs(kind):
    return kind("batch", "jobs")


def test_defaults(jobs):
    created = jobs.create({**job(), "status": {"active": 3}})
    spec = created["spec"]
    names = ("completions", "parallelism", "backoffLimit", "completionMode", "suspend", "manualSelector",
             "podReplacementPolicy")  # fmt: skip
    assert [spec[name] for name in names] == [1, 1, 6, "NonIndexed", False, False, "TerminatingOrFailed"]
    assert created["status"] == {} and created["metadata"]["generation"] == 1
    assert jobs.causes(created) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"parallelism": 3}, {"parallelism": 3, "completions": None}),
        ({"completions": 3}, {"parallelism": 1, "completions": 3}),
        ({"backoffLimitPerIndex": 1}, {"backoffLimit": 2**31 - 1}),
        ({"podFailurePolicy": {"rules": []}}, {"podReplacementPolicy": "Failed"}),
    ],
)
def test_defaults_depend_on_each_other(jobs, spec, expected):
    created = jobs.create(job(**spec))["spec"]
    assert {name: created.get(name) for name in expected} == expected


def test_the_selector_is_generated_and_labels_with_it(jobs):
    created = jobs.create(job())
    labels = {
        "batch.kubernetes.io/controller-uid": UID,
        "batch.kubernetes.io/job-name": "j",
        "controller-uid": UID,
        "job-name": "j",
    }
    assert created["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": UID}}
    assert created["spec"]["template"]["metadata"]["labels"] == labels
    assert created["metadata"]["labels"] == labels
    own = jobs.create({**job(), "metadata": {**job()["metadata"], "labels": {"a": "b"}}})
    assert own["metadata"]["labels"] == {"a": "b"}


def test_a_manual_selector_is_left_alone(jobs):
    created = jobs.create(job(manualSelector=True, selector={"matchLabels": {"a": "b"}}))
    assert created["spec"]["selector"] == {"matchLabels": {"a": "b"}}
    (text,) = [f"{cause.field}: {cause.message}" for cause in jobs.causes(created)]
    assert text == (
        "spec.template.metadata.labels: Invalid value: {}: `selector` does not match template `labels`"
    )


def test_generated_labels_are_not_the_authors(jobs):
    wrong = job()
    wrong["spec"]["template"]["metadata"] = {"labels": {"job-name": "other"}}
    found = jobs.problems(wrong)
    assert found[0].startswith("spec.template.metadata.labels[job-name]: Invalid value: ")
    assert found[0].endswith("must be 'j'")


INDEXED = {"completionMode": "Indexed", "completions": 5}
EXIT = {"operator": "In", "values": [1]}


def _rules(*rules, **spec):
    return {"podFailurePolicy": {"rules": list(rules)}, **spec}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"parallelism": -1}, "spec.parallelism: Invalid value: -1: must be greater than or equal to 0"),
        ({"completionMode": "Odd"}, 'spec.completionMode: Unsupported value: "Odd"'),
        ({"completionMode": "Indexed", "parallelism": 1},
         "spec.completions: Required value: when completion mode is Indexed"),
        ({**INDEXED, "parallelism": 100_001},
         "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion"
         " mode is Indexed"),
        ({"backoffLimitPerIndex": 1},
         "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"),
        ({**INDEXED, "maxFailedIndexes": 1},
         "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified"),
        ({**INDEXED, "backoffLimitPerIndex": 1, "maxFailedIndexes": 6},
         "spec.maxFailedIndexes: Invalid value: 6: must be less than or equal to completions"),
        ({"completionMode": "Indexed", "completions": 100_001, "backoffLimitPerIndex": 1},
         "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000"),
        ({"managedBy": "me"},
         'spec.managedBy: Invalid value: "me": must be a domain-prefixed path'
         ' (such as "acme.io/foo")'),
        ({"managedBy": "example.com/" + "a" * 60}, "spec.managedBy: Too long"),
        ({"successPolicy": {"rules": [{"succeededCount": 1}]}},
         "spec.successPolicy: Invalid value: {\"rules\":[{\"succeededCount\":1}]}: requires indexed completion mode"),
        ({**INDEXED, "successPolicy": {"rules": []}},
         "spec.successPolicy.rules: Required value: at least one rules must be specified when the"
         " successPolicy is specified"),
        ({**INDEXED, "successPolicy": {"rules": [{}]}},
         "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or"
         " succeededIndexes must be specified"),
        ({**INDEXED, "successPolicy": {"rules": [{"succeededIndexes": "0-2,2"}]}},
         'spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0-2,2": error parsing succeededIndexes:'
         " non-increasing order, previous: 2, current: 2"),
        ({**INDEXED, "successPolicy": {"rules": [{"succeededIndexes": "0-2", "succeededCount": 4}]}},
         "spec.successPolicy.rules[0].succeededCount: Invalid value: 4: must be less than or equal to 3"
         " (the number of indexes in the specified succeededIndexes field)"),
        (_rules({"action": "Shrug", "onExitCodes": EXIT}),
         'spec.podFailurePolicy.rules[0].action: Unsupported value: "Shrug": supported values: "Count",'
         ' "FailIndex", "FailJob", "Ignore"'),
        (_rules({"onExitCodes": EXIT}),
         'spec.podFailurePolicy.rules[0].action: Required value: valid values: ["Count" "FailIndex"'
         ' "FailJob" "Ignore"]'),
        (_rules({"action": "FailIndex", "onExitCodes": EXIT}),
         'spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the'
         ' backoffLimitPerIndex to be set'),
        (_rules({"action": "Ignore"}),
         "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and"
         " OnPodConditions is required"),
        (_rules({"action": "Ignore", "onExitCodes": EXIT, "onPodConditions": [{"type": "Ready"}]}),
         "spec.podFailurePolicy.rules[0]: Invalid value: specifying both OnExitCodes and OnPodConditions"
         " is not supported"),
        (_rules({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [0]}}),
         "spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator"),
        (_rules({"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [2, 1]}}),
         "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,1]: must be ordered"),
        (_rules({"action": "FailJob", "onExitCodes": {**EXIT, "containerName": "x"}}),
         'spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "x": must be one of the'
         " container or initContainer names in the pod template"),
        (_rules({"action": "Count", "onExitCodes": EXIT}, podReplacementPolicy="TerminatingOrFailed"),
         'spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed"'),
    ],
)  # fmt: skip
def test_a_fault_is_named(jobs, spec, expected):
    found = jobs.problems(job(**spec))
    assert len(found) == 1, found
    assert expected in found[0]


@pytest.mark.parametrize(
    ("pod", "spec", "expected"),
    [
        ({"restartPolicy": "Always"}, {}, 'Required value: valid values: "OnFailure", "Never"'),
        ({"restartPolicy": None}, {}, 'Required value: valid values: "OnFailure", "Never"'),
        ({"restartPolicy": "OnFailure"}, _rules({"action": "Count", "onExitCodes": EXIT}),
         'Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified'),
    ],
)  # fmt: skip
def test_pods_of_a_job_end(jobs, pod, spec, expected):
    pod = {name: value for name, value in pod.items() if value}
    body = job(pod, **spec)
    if not pod:
        del body["spec"]["template"]["spec"]["restartPolicy"]
    assert jobs.problems(body) == [f"spec.template.spec.restartPolicy: {expected}"]


def test_the_pods_of_an_indexed_job_fit_into_host_names(jobs):
    name = "j" * 62
    assert jobs.problems(job(name=name, **INDEXED)) == [
        f'metadata.name: Invalid value: "{name}": will not able to create pod with invalid DNS label: {name}-4'
    ]


def _changed(old, **changes):
    return {**old, "spec": {**old["spec"], **changes}}


def test_what_may_change(jobs):
    old = jobs.create(job(parallelism=2))
    new = _changed(
        old, parallelism=4, activeDeadlineSeconds=9, ttlSecondsAfterFinished=1, backoffLimit=1, suspend=True
    )
    assert jobs.update_problems(new, old) == []
    assert jobs.update(new, old)["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"completions": 7},
        {"completionMode": "Indexed"},
        {"selector": {"matchLabels": {"job-name": "j"}}},
        {"managedBy": "example.com/me"},
        {"podFailurePolicy": {"rules": [{"action": "Count", "onExitCodes": EXIT}]}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_may_not_change(jobs, changes):
    old = jobs.create(job(completions=1))
    (field,) = changes
    found = [text for text in jobs.update_problems(_changed(old, **changes), old) if "immutable" in text]
    assert len(found) == 1 and found[0].startswith(f"spec.{field}: Invalid value: ")


def test_indexed_jobs_are_stretched_with_their_parallelism(jobs):
    old = jobs.create(job(**{**INDEXED, "parallelism": 5}))
    assert jobs.update_problems(_changed(old, completions=7, parallelism=7), old) == []
    assert jobs.update_problems(_changed(old, completions=7), old) == [
        "spec.completions: Invalid value: 7: can only be modified in tandem with spec.parallelism"
    ]


def _template(old, **pod):
    template = old["spec"]["template"]
    return _changed(old, template={**template, "spec": {**template["spec"], **pod}})


PLACED = {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "k", "operator": "Exists"}]}
STARTED = {"startTime": "2026-01-01T00:00:00Z"}
SUSPENDED = [{"type": "Suspended", "status": "True"}]


@pytest.mark.parametrize(
    ("suspend", "status", "may"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, STARTED, False),
        (True, {**STARTED, "conditions": SUSPENDED}, True),
        (True, {**STARTED, "conditions": SUSPENDED, "active": 1}, False),
    ],
)
def test_where_pods_run_changes_while_there_are_none(jobs, suspend, status, may):
    old = {**jobs.create(job(suspend=suspend)), "status": status}
    (container,) = old["spec"]["template"]["spec"]["containers"]
    bigger = [{**container, "resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}}]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]}}}  # fmt: skip
    for pod in (PLACED, {"containers": bigger}, {"affinity": affinity}):
        found = jobs.update_problems(_template(old, **pod), old)
        assert (found == []) is may, found
    assert jobs.update_problems(_template(old, hostNetwork=True), old) != []


def _status(jobs, now, before=None, **spec):
    old = {**jobs.create(job(**spec)), "status": before or {}}
    return jobs.update_problems({**old, "status": now}, old, "status")


def _true(*names):
    return [{"type": name, "status": "True"} for name in names]


DONE = {
    **STARTED,
    "completionTime": "2026-01-01T00:01:00Z",
    "conditions": _true("Complete", "SuccessCriteriaMet"),
}
LIMITED = {**INDEXED, "backoffLimitPerIndex": 1}


@pytest.mark.parametrize(
    ("now", "before", "spec", "expected"),
    [
        (DONE, STARTED, {}, ""),
        ({**STARTED, "conditions": _true("Failed", "FailureTarget")}, STARTED, {}, ""),
        ({"active": -1}, {}, {}, "status.active: Invalid value: -1: must be greater than or equal to 0"),
        ({**DONE, "conditions": _true("Complete")}, STARTED, {},
         "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"),
        ({**STARTED, "conditions": _true("Failed")}, STARTED, {},
         "cannot set Failed=True condition without the FailureTarget=true condition"),
        ({**STARTED, "conditions": DONE["conditions"]}, STARTED, {},
         "status.completionTime: Required value: completionTime is required for Complete jobs"),
        ({**STARTED, "completionTime": STARTED["startTime"]}, STARTED, {},
         "cannot set completionTime when there is no Complete=True condition"),
        ({**DONE, "completionTime": "2025-01-01T00:00:00Z"}, STARTED, {},
         "completionTime cannot be set before startTime"),
        ({**DONE, "completionTime": "2026-01-01T00:02:00Z"}, DONE, {}, "completionTime cannot be mutated"),
        ({key: value for key, value in DONE.items() if key != "startTime"}, {}, {},
         "status.startTime: Required value: startTime is required for finished job"),
        ({}, STARTED, {}, "status.startTime: Required value: startTime cannot be removed for unsuspended job"),
        ({}, STARTED, {"suspend": True}, ""),
        ({**DONE, "active": 1}, STARTED, {}, "status.active: Invalid value: 1: active>0 is invalid for finished job"),
        ({**DONE, "uncountedTerminatedPods": {"failed": ["a"]}}, STARTED, {},
         "uncountedTerminatedPods needs to be empty for finished job"),
        ({"uncountedTerminatedPods": {"failed": ["a"], "succeeded": ["a"]}}, {}, {},
         'status.uncountedTerminatedPods.failed[0]: Duplicate value: "a"'),
        ({"failed": 1}, {"failed": 2}, {}, "status.failed: Invalid value: 1: cannot decrease the failed counter"),
        ({"succeeded": 1}, {"succeeded": 2}, {}, "cannot decrease the succeeded counter"),
        ({"succeeded": 1}, {"succeeded": 2}, {**INDEXED, "parallelism": 5}, ""),
        ({"ready": 2, "active": 1}, {}, {}, "status.ready: Invalid value: 2: cannot set more ready pods than active"),
        ({"completedIndexes": "0-9"}, {}, INDEXED,
         'status.completedIndexes: Invalid value: "0-9": error parsing completedIndexes: too large index: "9"'),
        ({"completedIndexes": "0"}, {}, {},
         "cannot set non-empty completedIndexes when non-indexed completion mode"),
        ({"failedIndexes": "0"}, {}, INDEXED, "cannot set non-null failedIndexes when backoffLimitPerIndex is null"),
        ({"failedIndexes": "2-3", "completedIndexes": "0,3"}, {}, LIMITED,
         'status.failedIndexes: Invalid value: "2-3": failedIndexes and completedIndexes overlap at index: 3'),
        ({"failedIndexes": "2-3", "completedIndexes": "0,4"}, {}, LIMITED, ""),
    ],
)  # fmt: skip
def test_a_status_moves_forward(jobs, now, before, spec, expected):
    found = _status(jobs, now, before, **spec)
    assert len(found) == bool(expected), found
    assert not expected or expected in found[0]


def test_what_ended_stays_ended(jobs):
    found = _status(jobs, STARTED, DONE)
    assert found == [
        "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
        "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
    ]
