"""Pod validation: one fault each, the field and the words that name it."""

import pytest


def _pod(**spec):
    return {"spec": {"containers": [{"name": "a", "image": "web:1"}], **spec}}


def _container(**fields):
    return _pod(containers=[{"name": "a", "image": "web:1", **fields}])


_CONFIG = {"configMap": {"name": "c"}}
_GET = {"httpGet": {"port": 80}}
FAULTS = [
    ({"spec": {}}, "spec.containers: Required value"),
    (_container(name=""), "spec.containers[0].name: Required value"),
    (_container(name="A"), 'spec.containers[0].name: Invalid value: "A": a lowercase RFC 1123 label'),
    (_container(image=""), "spec.containers[0].image: Required value"),
    (_container(image=" a"), 'spec.containers[0].image: Invalid value: " a": must not have leading'),
    (_pod(containers=[{"name": "a", "image": "b"}] * 2), 'spec.containers[1].name: Duplicate value: "a"'),
    (
        _pod(initContainers=[{"name": "a", "image": "b"}]),
        'spec.initContainers[0].name: Duplicate value: "a"',
    ),
    (
        _pod(initContainers=[{"name": "i", "image": "b", "livenessProbe": _GET}]),
        "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without",
    ),
    (
        _container(imagePullPolicy="Sometimes"),
        'spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNot',
    ),
    (_container(ports=[{}]), "spec.containers[0].ports[0].containerPort: Required value"),
    (
        _container(ports=[{"containerPort": 70000}]),
        "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535",
    ),
    (
        _container(ports=[{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]),
        'spec.containers[0].ports[1].name: Duplicate value: "a"',
    ),
    (
        _container(ports=[{"containerPort": 1, "protocol": "ICMP"}]),
        'spec.containers[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"',
    ),
    (
        _container(ports=[{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]),
        'spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//5"',
    ),
    (
        _pod(
            hostNetwork=True,
            containers=[{"name": "a", "image": "b", "ports": [{"containerPort": 1, "hostPort": 2}]}],
        ),
        "must match `containerPort` when `hostNetwork` is true",
    ),
    (_container(env=[{"value": "x"}]), "spec.containers[0].env[0].name: Required value"),
    (
        _container(env=[{"name": "A=B"}]),
        'spec.containers[0].env[0].name: Invalid value: "A=B": a valid environment',
    ),
    (_container(env=[{"name": "A", "valueFrom": {}}]), "must specify one of: `fieldRef`"),
    (
        _container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]),
        'spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.x": error converting',
    ),
    (
        _container(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]),
        "spec.containers[0].env[0].valueFrom.secretKeyRef.key: Required value",
    ),
    (_container(envFrom=[{}]), "must specify one of: `configMapRef` or `secretRef`"),
    (
        _container(volumeMounts=[{"name": "v", "mountPath": "/a"}]),
        'spec.containers[0].volumeMounts[0].name: Not found: "v"',
    ),
    (
        {
            "spec": {
                **_container(volumeMounts=[{"name": "v", "mountPath": "/a"}] * 2)["spec"],
                "volumes": [{"name": "v", **_CONFIG}],
            }
        },
        'spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique',
    ),
    (
        {
            "spec": {
                **_container(volumeMounts=[{"name": "v", "mountPath": "/a", "subPath": "../x"}])["spec"],
                "volumes": [{"name": "v"}],
            }
        },
        "subPath: Invalid value: \"../x\": must not contain '..'",
    ),
    (_pod(volumes=[{"name": "v"}, {"name": "v"}]), 'spec.volumes[1].name: Duplicate value: "v"'),
    (
        _pod(volumes=[{"name": "v", "emptyDir": {}, **_CONFIG}]),
        "spec.volumes[0].configMap: Forbidden: may not specify more than 1 volume type",
    ),
    (_pod(volumes=[{"name": "v", "secret": {}}]), "spec.volumes[0].secret.secretName: Required value"),
    (
        _pod(volumes=[{"name": "v", "configMap": {"name": "c", "defaultMode": 512}}]),
        "spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777",
    ),
    (
        _pod(volumes=[{"name": "v", "configMap": {"name": "c", "items": [{"key": "a", "path": "/x"}]}}]),
        'spec.volumes[0].configMap.items[0].path: Invalid value: "/x": must be a relative path',
    ),
    (
        _pod(volumes=[{"name": "v", "hostPath": {"path": "/", "type": "Hole"}}]),
        'spec.volumes[0].hostPath.type: Unsupported value: "Hole"',
    ),
    (
        _pod(
            volumes=[
                {
                    "name": "v",
                    "projected": {
                        "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 5}}]
                    },
                }
            ],
            serviceAccountName="default",
        ),
        "expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
    ),
    (
        _container(readinessProbe={}),
        "spec.containers[0].readinessProbe: Required value: must specify a handler type",
    ),
    (
        _container(livenessProbe={**_GET, "exec": {"command": ["a"]}}),
        "spec.containers[0].livenessProbe.httpGet: Forbidden: may not specify more than 1 handler type",
    ),
    (
        _container(livenessProbe={**_GET, "successThreshold": 2}),
        "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
    ),
    (
        _container(readinessProbe={**_GET, "periodSeconds": -1}),
        "spec.containers[0].readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
    ),
    (
        _container(readinessProbe={"httpGet": {"port": "Bad_Name"}}),
        'spec.containers[0].readinessProbe.httpGet.port: Invalid value: "Bad_Name": must contain only',
    ),
    (
        _container(livenessProbe={"tcpSocket": {}}),
        "spec.containers[0].livenessProbe.tcpSocket.port: Required value",
    ),
    (_container(lifecycle={"preStop": {}}), "lifecycle.preStop: Required value: must specify a handler type"),
    (
        _container(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
        'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
    ),
    (
        _container(resources={"limits": {"memory": "-1"}}),
        'spec.containers[0].resources.limits[memory]: Invalid value: "-1": must be greater than or equal to 0',
    ),
    (
        _container(resources={"limits": {"ex.com/gpu": "1500m"}}),
        'spec.containers[0].resources.limits[ex.com/gpu]: Invalid value: "1500m": must be an integer',
    ),
    (
        _container(securityContext={"runAsUser": -1}),
        "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647",
    ),
    (
        _container(securityContext={"privileged": True, "allowPrivilegeEscalation": False}),
        "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
    ),
    (
        _pod(restartPolicy="Maybe"),
        'spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "Never", "OnFailure"',
    ),
    (
        _pod(dnsPolicy="None"),
        "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
    ),
    (
        _pod(activeDeadlineSeconds=0),
        "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647",
    ),
    (_pod(nodeSelector={"a b": "c"}), 'spec.nodeSelector: Invalid value: "a b": name part must consist of'),
    (_pod(hostname="A.b"), 'spec.hostname: Invalid value: "A.b": a lowercase RFC 1123 label'),
    (_pod(serviceAccountName="a_b"), 'spec.serviceAccountName: Invalid value: "a_b"'),
    (_pod(tolerations=[{"operator": "Equal"}]), "operator must be Exists when `key` is empty"),
    (
        _pod(tolerations=[{"key": "a", "operator": "Exists", "tolerationSeconds": 1}]),
        "spec.tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set",
    ),
    (
        _pod(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}),
        "nodeSelectorTerms: Required value: must have at least one node selector term",
    ),
    (
        _pod(affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}),
        "topologyKey: Required value: can not be empty",
    ),
    (
        _pod(
            topologySpreadConstraints=[
                {"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}
            ]
        ),
        "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
    ),
    (
        _pod(hostAliases=[{"ip": "x"}]),
        'spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address',
    ),
    (_pod(overhead={"cpu": "-1"}), "spec.overhead.limits[cpu]: Invalid value"),
]


@pytest.mark.parametrize(("pod", "expected"), FAULTS, ids=[text[:60] for _, text in FAULTS])
def test_a_fault_is_named(kind, pod, expected):
    found = kind("", "pods").problems(pod)
    # A faulty limit becomes a faulty request, too, and what is empty is no name either.
    count = 3 if "topologyKey" in expected else 2 if "resources.limits" in expected else 1
    assert len(found) == count, found
    assert expected in found[0]


def test_a_rich_pod_is_fine(kind):
    pod = _pod(
        initContainers=[
            {
                "name": "side",
                "image": "s:1",
                "restartPolicy": "Always",
                "startupProbe": {"exec": {"command": ["x"]}},
            },
            {"name": "init", "image": "s:1"},
        ],
        containers=[
            {
                "name": "a",
                "image": "web:1",
                "env": [
                    {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                    {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
                ],
                "resources": {"limits": {"memory": "64Mi", "ex.com/gpu": 1}},
                "readinessProbe": {"grpc": {"port": 5}},
                "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "a/b"}],
            }
        ],
        volumes=[{"name": "v"}],
        nodeSelector={"kubernetes.io/os": "linux"},
        tolerations=[{"operator": "Exists"}],
        affinity={
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}
                    ]
                }
            },
            "podAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 1,
                        "podAffinityTerm": {
                            "topologyKey": "zone",
                            "labelSelector": {"matchLabels": {"a": "b"}},
                        },
                    }
                ]
            },
        },
    )
    assert kind("", "pods").problems(pod) == []
