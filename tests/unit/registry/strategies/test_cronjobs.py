"""CronJobs, ReplicationControllers and PodTemplates."""

import pytest


@pytest.fixture
def cronjobs(kind):
    return kind("batch", "cronjobs")


def cronjob(name="c", job=None, **spec):
    pod = {"containers": [{"name": "a", "image": "b"}], "restartPolicy": "Never"}
    template = {"spec": {"template": {"spec": pod}, **(job or {})}}
    return {"metadata": {"name": name}, "spec": {"schedule": "*/5 * * * *", "jobTemplate": template, **spec}}


def test_defaults(cronjobs):
    created = cronjobs.create({**cronjob(), "status": {"active": []}})
    spec = created["spec"]
    names = ("concurrencyPolicy", "suspend", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")
    assert [spec[name] for name in names] == ["Allow", False, 3, 1]
    job = spec["jobTemplate"]["spec"]
    assert job.keys() == {"template"}, "a Job's own defaults come when it is made"
    assert job["template"]["spec"]["dnsPolicy"] == "ClusterFirst"
    assert created["status"] == {} and cronjobs.causes(created) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"schedule": ""}, "spec.schedule: Required value"),
        (
            {"schedule": "61 * * * *"},
            'spec.schedule: Invalid value: "61 * * * *": end of range (61) above maximum (59): 61',
        ),
        (
            {"schedule": "TZ=UTC 0 * * * *"},
            'spec.schedule: Invalid value: "TZ=UTC 0 * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone'
            " field instead",
        ),
        ({"timeZone": ""}, 'spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string'),
        ({"timeZone": "Mars/Base"}, 'spec.timeZone: Invalid value: "Mars/Base": unknown time zone Mars/Base'),
        ({"timeZone": "../etc/passwd"}, "unknown time zone ../etc/passwd"),
        ({"timeZone": "America"}, "unknown time zone America"),
        ({"timeZone": "Local"}, "timeZone must be an explicit time zone as defined in"),
        ({"concurrencyPolicy": "Maybe"}, 'spec.concurrencyPolicy: Unsupported value: "Maybe"'),
        ({"startingDeadlineSeconds": -1}, "spec.startingDeadlineSeconds: Invalid value: -1"),
        ({"failedJobsHistoryLimit": -1}, "spec.failedJobsHistoryLimit: Invalid value: -1"),
        (
            {"job": {"selector": {"matchLabels": {"a": "b"}}}},
            "spec.jobTemplate.spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` will be"
            " auto-generated",
        ),
        ({"job": {"manualSelector": True}}, "spec.jobTemplate.spec.manualSelector: Unsupported value: true"),
        ({"job": {"parallelism": -1}}, "spec.jobTemplate.spec.parallelism: Invalid value: -1"),
        ({"name": "c" * 53}, "must be no more than 52 characters"),
        ({"schedule": "@every 1h", "timeZone": "Europe/Berlin"}, ""),
    ],
)  # fmt: skip
def test_a_cronjob(cronjobs, spec, expected):
    found = cronjobs.problems(cronjob(**spec))
    assert len(found) == bool(expected) and (not expected or expected in found[0]), found


def test_a_zone_in_the_schedule_stays_where_it_has_been(cronjobs):
    old = cronjobs.create(cronjob(schedule="TZ=UTC 0 * * * *"))
    assert (
        cronjobs.update_problems({**old, "spec": {**old["spec"], "schedule": "TZ=UTC 5 * * * *"}}, old) == []
    )
    found = cronjobs.update_problems({**old, "spec": {**old["spec"], "timeZone": "UTC"}}, old)
    assert found[0].endswith("cannot use both timeZone field and TZ or CRON_TZ in schedule")


@pytest.fixture
def controllers(kind):
    return kind("", "replicationcontrollers")


def controller(**spec):
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
    return {"spec": {"template": template, **spec}}


def test_a_controller_takes_labels_and_selector_of_its_template(controllers):
    created = controllers.create(controller())
    assert created["metadata"]["labels"] == {"app": "web"} and created["spec"]["selector"] == {"app": "web"}
    assert created["spec"]["replicas"] == 1 and created["status"] == {"replicas": 0}
    assert controllers.causes(created) == []
    own = controllers.create({**controller(selector={"x": "y"}), "metadata": {"labels": {"a": "b"}}})
    assert own["metadata"]["labels"] == {"a": "b"} and own["spec"]["selector"] == {"x": "y"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"selector": {"x": "y"}},
         'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`'),
        ({"replicas": -1}, "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        ({"minReadySeconds": -1}, "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0"),
    ],
)  # fmt: skip
def test_a_fault_of_a_controller_is_named(controllers, spec, expected):
    assert controllers.problems(controller(**spec)) == [expected]


def test_a_controller_without_a_template(controllers):
    assert controllers.problems({"spec": {}}) == [
        "spec.selector: Required value",
        "spec.template: Required value",
    ]


def test_a_pod_template_is_counted(kind):
    templates = kind("", "podtemplates")
    old = templates.create({"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}})
    assert old["metadata"]["generation"] == 1 and templates.causes(old) == []
    changed = {**old, "template": {**old["template"], "metadata": {"labels": {"a": "b"}}}}
    assert templates.update(changed, old)["metadata"]["generation"] == 2
    assert templates.problems({}) == ["template.spec.containers: Required value"]
