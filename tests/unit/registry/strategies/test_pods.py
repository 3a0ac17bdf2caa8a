"""Pods: what creation fills in, what updates may change, how long deletion takes."""

import pytest

from orchestrator.registry.strategies.pods import qos_class


@pytest.fixture
def pods(kind):
    return kind("", "pods")


def _pod(**spec):
    return {"spec": {"containers": [{"name": "a", "image": "web:1"}], **spec}}


def _container(**fields):
    return _pod(containers=[{"name": "a", "image": "web:1", **fields}])


def test_a_new_pod_gets_kubernetes_defaults(pods):
    pod = pods.create({**_pod(serviceAccount="sa"), "status": {"phase": "Running"}})
    assert pod["metadata"]["generation"] == 1
    assert pod["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert pod["spec"] == {
        "containers": [
            {
                "name": "a",
                "image": "web:1",
                "imagePullPolicy": "IfNotPresent",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }
        ],
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": True,
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "serviceAccount": "sa",
        "serviceAccountName": "sa",
        "terminationGracePeriodSeconds": 30,
    }
    assert pods.causes(pod) == []


def test_an_empty_text_counts_as_absent(pods):
    """Clients in typed languages write out their zero values."""
    empty = {"restartPolicy": "", "dnsPolicy": "", "schedulerName": "", "hostname": "", "nodeName": ""}
    container = {
        "imagePullPolicy": "",
        "terminationMessagePolicy": "",
        "ports": [{"containerPort": 1, "protocol": ""}],
    }
    pod = _container(**container)
    pod["spec"] |= empty
    assert pods.problems(pod) == []
    assert pods.create(pod)["spec"]["restartPolicy"] == "Always"


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("web", "Always"),
        ("web:latest", "Always"),
        ("web:1", "IfNotPresent"),
        ("host:5000/web", "Always"),
        ("host:5000/web:2", "IfNotPresent"),
        ("web@sha256:ab", "IfNotPresent"),
    ],
)
def test_pull_policy_follows_the_tag(pods, image, policy):
    assert pods.create(_container(image=image))["spec"]["containers"][0]["imagePullPolicy"] == policy


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"ports": [{"containerPort": 1}]}, {"ports": [{"containerPort": 1, "protocol": "TCP"}]}),
        (
            {"livenessProbe": {"httpGet": {"port": 1}, "periodSeconds": 5}},
            {
                "livenessProbe": {
                    "httpGet": {"port": 1, "path": "/", "scheme": "HTTP"},
                    "periodSeconds": 5,
                    "timeoutSeconds": 1,
                    "successThreshold": 1,
                    "failureThreshold": 3,
                }
            },
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
            {
                "env": [
                    {
                        "name": "A",
                        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
                    }
                ]
            },
        ),
        (
            {"resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}, "requests": {"cpu": 0.1}}},
            {
                "resources": {
                    "limits": {"cpu": "500m", "memory": "1Gi"},
                    "requests": {"cpu": "100m", "memory": "1Gi"},
                }
            },
        ),
        (
            {"lifecycle": {"preStop": {"httpGet": {"port": 1}}}},
            {"lifecycle": {"preStop": {"httpGet": {"port": 1, "path": "/", "scheme": "HTTP"}}}},
        ),
    ],
)
def test_container_defaults(pods, given, expected):
    container = pods.create(_container(**given))["spec"]["containers"][0]
    assert {key: container[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"emptyDir": {}}),
        ({"secret": {"secretName": "s"}}, {"secret": {"secretName": "s", "defaultMode": 420}}),
        ({"configMap": {"name": "c", "defaultMode": 256}}, {"configMap": {"name": "c", "defaultMode": 256}}),
        ({"hostPath": {"path": "/"}}, {"hostPath": {"path": "/", "type": ""}}),
        (
            {"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            {
                "projected": {
                    "defaultMode": 420,
                    "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}],
                }
            },
        ),
        (
            {"downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            {
                "downwardAPI": {
                    "defaultMode": 420,
                    "items": [{"path": "a", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}],
                }
            },
        ),
        ({"emptyDir": {"sizeLimit": "1024Mi"}}, {"emptyDir": {"sizeLimit": "1Gi"}}),
    ],
)
def test_volume_defaults(pods, given, expected):
    pod = pods.create(_pod(volumes=[{"name": "v", **given}], serviceAccountName="default"))
    assert pod["spec"]["volumes"] == [{"name": "v", **expected}]
    assert pods.causes(pod) == []


def test_host_network_publishes_container_ports(pods):
    pod = pods.create(
        _pod(hostNetwork=True, containers=[{"name": "a", "image": "b:1", "ports": [{"containerPort": 80}]}])
    )
    assert pod["spec"]["containers"][0]["ports"] == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]


def _resources(*pairs):
    return {"containers": [{"resources": {"requests": r, "limits": limits}} for r, limits in pairs]}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (_resources(({}, {})), "BestEffort"),
        (_resources(({"cpu": "0"}, {})), "BestEffort"),
        (_resources(({"cpu": "1"}, {})), "Burstable"),
        (_resources(({"cpu": "1", "memory": "1"}, {"cpu": "1000m", "memory": "1"})), "Guaranteed"),
        (_resources(({}, {"cpu": "1", "memory": "1"})), "Guaranteed"),
        (_resources(({"cpu": "1"}, {"cpu": "2", "memory": "1"})), "Burstable"),
        (_resources(({"cpu": "1", "memory": "1"}, {"cpu": "1", "memory": "1"}), ({}, {})), "Burstable"),
    ],
)
def test_quality_of_service(spec, expected):
    assert qos_class(spec) == expected


def test_only_the_listed_fields_of_a_pod_may_change(pods):
    old = pods.create(_pod(activeDeadlineSeconds=10, tolerations=[{"key": "a", "operator": "Exists"}]))
    spec = old["spec"]

    def problems(**changes):
        return pods.update_problems({**old, "spec": {**spec, **changes}}, old)

    assert problems(containers=[{**spec["containers"][0], "image": "other:2"}]) == []
    assert problems(activeDeadlineSeconds=5) == []
    assert problems(tolerations=[*spec["tolerations"], {"key": "b", "operator": "Exists"}]) == []
    assert "less than or equal to previous value" in problems(activeDeadlineSeconds=50)[0]
    assert "existing toleration can not be modified" in problems(tolerations=[])[0]
    assert (
        "may not add or remove containers"
        in problems(containers=[*spec["containers"], {"name": "b", "image": "c"}])[0]
    )
    (text,) = problems(nodeName="n1")
    assert text.startswith(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
    )
    assert text.endswith("changed: nodeName")
    gates = [{"name": "a/b"}]
    assert problems(schedulingGates=gates) == [
        "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a/b'"
    ]


def test_generation_counts_changes_of_the_spec_only(pods):
    old = pods.create(_pod())
    labelled = {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}
    assert pods.update(labelled, old)["metadata"]["generation"] == 1
    changed = {**old, "spec": {**old["spec"], "activeDeadlineSeconds": 5}}
    assert pods.update(changed, old)["metadata"]["generation"] == 2


def test_status_and_spec_are_written_apart(pods):
    old = pods.create(_pod())
    wanted = {**old, "spec": {}, "status": {"phase": "Running", "podIP": "10.0.0.1"}}
    written = pods.update(wanted, old, "status")
    assert written["spec"] == old["spec"]
    assert written["status"]["podIPs"] == [{"ip": "10.0.0.1"}]
    assert written["status"]["qosClass"] == "BestEffort"
    assert pods.update({**wanted, "spec": old["spec"]}, old)["status"] == old["status"]


def test_a_finished_container_of_a_pod_that_never_restarts_stays_finished(pods):
    old = pods.create(_pod(restartPolicy="Never"))
    old["status"]["containerStatuses"] = [{"name": "a", "state": {"terminated": {"exitCode": 1}}}]
    running = {
        **old,
        "status": {"phase": "Running", "containerStatuses": [{"name": "a", "state": {"running": {}}}]},
    }
    assert pods.update_problems(running, old, "status") == [
        "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
    ]


def test_ephemeral_containers_are_added_through_their_subresource_only(pods):
    old = pods.create(_pod())
    debug = {"name": "debug", "image": "sh:1"}
    new = {**old, "spec": {"ephemeralContainers": [debug]}}
    written = pods.update(new, old, "ephemeralcontainers")
    assert written["spec"]["containers"] == old["spec"]["containers"]
    assert written["spec"]["ephemeralContainers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert written["metadata"]["generation"] == 2
    assert any("cannot be set on create" in text for text in pods.problems(_pod(ephemeralContainers=[debug])))


@pytest.mark.parametrize(
    ("pod", "requested", "expected"),
    [
        ({"spec": {"terminationGracePeriodSeconds": 30}}, None, 0),
        ({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}}, None, 30),
        ({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}}, 5, 5),
        ({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}}, 0, 0),
        ({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": -4}}, None, 1),
        ({"spec": {"nodeName": "n"}, "status": {"phase": "Failed"}}, 30, 0),
    ],
)
def test_grace_period(pods, pod, requested, expected):
    assert pods.strategy.grace_period_s(pod, requested) == expected


def test_warnings_name_what_hides_what(pods):
    env = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    pod = pods.create(_container(env=env, ports=[{"containerPort": 1}, {"containerPort": 1}]))
    assert pods.strategy.warnings(pod, None) == [
        'spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply',
        "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
    ]
    assert pods.strategy.warnings(pod, pod) == []
