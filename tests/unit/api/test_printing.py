"""Tables: ages, one row per kind, what a row carries of its object."""

import json
from datetime import UTC, datetime

import pytest

from orchestrator.api import printing
from orchestrator.api import resources as table
from orchestrator.api.item import Item, encode

NOW_S = 1_700_000_000.0  # 2023-11-14T22:13:20Z
CREATED = "2023-11-14T22:10:00Z"


def _ago(seconds):
    return datetime.fromtimestamp(NOW_S - seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _item(at=7, **fields):
    metadata = {"name": "x", "creationTimestamp": CREATED, **fields.pop("metadata", {})}
    return Item(encode({"metadata": metadata, "kind": "K", "apiVersion": "v1", **fields}), at)


def _row(resource, **fields):
    """Cells of one object by column name."""
    body = json.loads(printing.table(resource, [_item(**fields)], NOW_S))
    (row,) = body["rows"]
    return dict(zip([column["name"] for column in body["columnDefinitions"]], row["cells"], strict=True))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119.9, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (14700, "4h5m"),
        (28800, "8h"),
        (172799, "47h"),
        (172800, "2d"),
        (183600, "2d3h"),
        (691199, "7d23h"),
        (691200, "8d"),
        (40 * 86400, "40d"),
        (729 * 86400, "729d"),
        (730 * 86400, "2y"),
        (742 * 86400, "2y12d"),
        (2920 * 86400, "8y"),
        (4000 * 86400, "10y"),
    ],
)
def test_human_duration(seconds, text):
    assert printing.human_duration(seconds) == text


def _status(name="a", ready=False, restarts=0, last=None, **state):
    status = {"name": name, "ready": ready, "restartCount": restarts, "state": state}
    return {**status, "lastState": {"terminated": {"finishedAt": last}}} if last else status


RUNNING = _status(ready=True, running={})
TWO = {"containers": [{"name": "a"}, {"name": "b"}]}
INIT = {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]}
SIDECAR = {"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]}


@pytest.mark.parametrize(
    ("spec", "status", "metadata", "expected"),
    [
        (TWO, {"phase": "Pending"}, {}, ("0/2", "Pending", "0")),
        (
            TWO,
            {"phase": "Running", "containerStatuses": [RUNNING, _status("b", True, running={})]},
            {},
            ("2/2", "Running", "0"),
        ),
        (
            TWO,
            {
                "phase": "Running",
                "containerStatuses": [
                    RUNNING,
                    _status("b", restarts=4, last=_ago(300), waiting={"reason": "CrashLoopBackOff"}),
                ],
            },
            {},
            ("1/2", "CrashLoopBackOff", "4 (5m ago)"),
        ),
        (
            TWO,
            {"phase": "Pending", "containerStatuses": [_status(waiting={"reason": "ImagePullBackOff"})]},
            {},
            ("0/2", "ImagePullBackOff", "0"),
        ),
        (
            TWO,
            {"phase": "Failed", "containerStatuses": [_status(terminated={"exitCode": 3})]},
            {},
            ("0/2", "ExitCode:3", "0"),
        ),
        (
            TWO,
            {
                "phase": "Failed",
                "containerStatuses": [_status(terminated={"exitCode": 1, "reason": "Error"})],
            },
            {},
            ("0/2", "Error", "0"),
        ),
        (
            TWO,
            {"phase": "Failed", "containerStatuses": [_status(terminated={"signal": 9})]},
            {},
            ("0/2", "Signal:9", "0"),
        ),
        (TWO, {"phase": "Failed", "reason": "Evicted"}, {}, ("0/2", "Evicted", "0")),
        (
            TWO,
            {
                "phase": "Running",
                "containerStatuses": [
                    _status(terminated={"reason": "Completed"}),
                    _status("b", True, running={}),
                ],
                "conditions": [{"type": "Ready", "status": "False"}],
            },
            {},
            ("1/2", "NotReady", "0"),
        ),
        (
            TWO,
            {"phase": "Running", "containerStatuses": [RUNNING]},
            {"deletionTimestamp": CREATED},
            ("1/2", "Terminating", "0"),
        ),
        (TWO, {"phase": "Succeeded"}, {"deletionTimestamp": CREATED}, ("0/2", "Succeeded", "0")),
        (
            INIT,
            {"phase": "Pending", "initContainerStatuses": [_status("i", running={})]},
            {},
            ("0/1", "Init:0/2", "0"),
        ),
        (
            INIT,
            {
                "phase": "Pending",
                "initContainerStatuses": [
                    _status("i", terminated={"exitCode": 0}),
                    _status("j", waiting={"reason": "PodInitializing"}),
                ],
            },
            {},
            ("0/1", "Init:1/2", "0"),
        ),
        (
            INIT,
            {
                "phase": "Pending",
                "initContainerStatuses": [_status("i", restarts=2, waiting={"reason": "CrashLoopBackOff"})],
            },
            {},
            ("0/1", "Init:CrashLoopBackOff", "2"),
        ),
        (
            INIT,
            {"phase": "Failed", "initContainerStatuses": [_status("i", terminated={"exitCode": 2})]},
            {},
            ("0/1", "Init:ExitCode:2", "0"),
        ),
        (
            SIDECAR,
            {
                "phase": "Running",
                "initContainerStatuses": [{**_status("s", True, 1, running={}), "started": True}],
                "containerStatuses": [RUNNING],
            },
            {},
            ("2/2", "Running", "1"),
        ),
        (
            TWO,
            {
                "phase": "Pending",
                "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated", "status": "False"}],
            },
            {},
            ("0/2", "SchedulingGated", "0"),
        ),
    ],
)
def test_state_of_a_pod(spec, status, metadata, expected):
    row = _row(table.PODS, spec=spec, status=status, metadata=metadata)
    assert (row["Ready"], row["Status"], row["Restarts"]) == expected


def test_wide_columns_of_a_pod():
    row = _row(
        table.PODS,
        spec={"nodeName": "n", "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]},
        status={"podIP": "10.0.0.1", "conditions": [{"type": "a", "status": "True"}]},
    )
    assert (row["IP"], row["Node"], row["Nominated Node"], row["Readiness Gates"]) == (
        "10.0.0.1",
        "n",
        "<none>",
        "1/2",
    )
    assert row["Age"] == "3m20s"


def test_a_finished_pod_is_marked():
    body = json.loads(printing.table(table.PODS, [_item(status={"phase": "Succeeded"})], NOW_S))
    assert body["rows"][0]["conditions"][0]["reason"] == "Succeeded"


SPEC = {
    "replicas": 3,
    "selector": {"matchLabels": {"app": "web"}},
    "template": {"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j:2"}]}},
}


@pytest.mark.parametrize(
    ("resource", "fields", "expected"),
    [
        (
            table.NODES,
            {
                "metadata": {
                    "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "a"}
                },
                "spec": {"unschedulable": True},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "addresses": [{"type": "InternalIP", "address": "10.0.0.2"}],
                    "nodeInfo": {"kubeletVersion": "v1.36.0", "containerRuntimeVersion": "docker://20"},
                },
            },
            {
                "Name": "x",
                "Status": "Ready,SchedulingDisabled",
                "Roles": "a,control-plane",
                "Version": "v1.36.0",
                "Internal-IP": "10.0.0.2",
                "External-IP": "<none>",
                "Container-Runtime": "docker://20",
            },
        ),
        (
            table.NODES,
            {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
            {"Status": "NotReady", "Roles": "<none>"},
        ),
        (
            table.SERVICES,
            {
                "spec": {
                    "type": "NodePort",
                    "clusterIPs": ["10.43.0.9"],
                    "selector": {"b": "1", "a": "2"},
                    "ports": [
                        {"port": 80, "nodePort": 30001, "protocol": "TCP"},
                        {"port": 53, "protocol": "UDP"},
                    ],
                }
            },
            {
                "Type": "NodePort",
                "Cluster-IP": "10.43.0.9",
                "External-IP": "<none>",
                "Port(s)": "80:30001/TCP,53/UDP",
                "Selector": "a=2,b=1",
            },
        ),
        (
            table.SERVICES,
            {"spec": {"type": "LoadBalancer"}},
            {"External-IP": "<pending>", "Cluster-IP": "<none>", "Port(s)": "<none>"},
        ),
        (
            table.SERVICES,
            {"spec": {"type": "ExternalName", "externalName": "a.example"}},
            {"External-IP": "a.example"},
        ),
        (
            table.ENDPOINTS,
            {"subsets": [{"addresses": [{"ip": f"10.0.0.{n}"} for n in range(5)], "ports": [{"port": 80}]}]},
            {"Endpoints": "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more..."},
        ),
        (table.ENDPOINTS, {}, {"Endpoints": "<none>"}),
        (
            table.ENDPOINTSLICES,
            {"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}]},
            {"AddressType": "IPv4", "Ports": "80", "Endpoints": "10.0.0.1"},
        ),
        (
            table.DEPLOYMENTS,
            {"spec": SPEC, "status": {"readyReplicas": 2, "updatedReplicas": 3}},
            {
                "Ready": "2/3",
                "Up-to-date": 3,
                "Available": 0,
                "Containers": "a,b",
                "Images": "i:1,j:2",
                "Selector": "app=web",
            },
        ),
        (
            table.REPLICASETS,
            {"spec": SPEC, "status": {"replicas": 3}},
            {"Desired": 3, "Current": 3, "Ready": 0},
        ),
        (table.CONFIGMAPS, {"data": {"a": "b"}, "binaryData": {"c": ""}}, {"Data": 2, "Age": "3m20s"}),
        (table.SECRETS, {"type": "Opaque", "data": {"a": ""}}, {"Type": "Opaque", "Data": 1}),
        (table.SERVICEACCOUNTS, {}, {"Secrets": 0}),
        (table.NAMESPACES, {"status": {"phase": "Active"}}, {"Status": "Active"}),
        (table.LEASES, {"spec": {"holderIdentity": "me"}}, {"Holder": "me"}),
        (
            table.CONTROLLERREVISIONS,
            {
                "revision": 4,
                "metadata": {
                    "ownerReferences": [
                        {
                            "apiVersion": "apps/v1",
                            "kind": "DaemonSet",
                            "name": "d",
                            "uid": "u",
                            "controller": True,
                        }
                    ]
                },
            },
            {"Controller": "daemonset.apps/d", "Revision": 4},
        ),
        (
            table.EVENTS,
            {
                "type": "Warning",
                "reason": "Failed",
                "message": " why \n",
                "involvedObject": {"kind": "Pod", "name": "p"},
                "firstTimestamp": _ago(600),
                "lastTimestamp": _ago(30),
                "source": {"component": "kubelet", "host": "n"},
            },
            {
                "Last Seen": "30s",
                "Object": "pod/p",
                "Message": "why",
                "Source": "kubelet, n",
                "First Seen": "10m",
                "Count": 1,
            },
        ),
        (
            table.EVENTS,
            {
                "eventTime": _ago(60),
                "series": {"count": 9, "lastObservedTime": _ago(5)},
                "reportingComponent": "c",
            },
            {"Last Seen": "5s", "First Seen": "60s", "Count": 9, "Source": "c"},
        ),
        (
            table.ROLEBINDINGS,
            {
                "roleRef": {"kind": "Role", "name": "r"},
                "subjects": [
                    {"kind": "User", "name": "u"},
                    {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
                ],
            },
            {"Role": "Role/r", "Users": "u", "Groups": "", "ServiceAccounts": "n/s"},
        ),
        (table.CLUSTERROLES, {}, {"Name": "x", "Created At": CREATED}),
    ],
)
def test_row(resource, fields, expected):
    row = _row(resource, **fields)
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    "resource", [row for row in table.BUILT_IN if row.stored], ids=lambda row: row.plural
)
def test_a_nearly_empty_object_of_every_kind_has_a_row(resource):
    assert _row(resource, metadata={"creationTimestamp": None})["Name"] == "x"


def test_what_a_row_carries_of_its_object():
    item = _item(at=12, data={"a": "b"}, metadata={"labels": {"l": "v"}})

    def row(include):
        return json.loads(printing.table(table.CONFIGMAPS, [item], NOW_S, include))["rows"][0]

    assert "object" not in row("None")
    assert row("Object")["object"] == item.object
    assert row("Metadata")["object"] == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": item.object["metadata"],
    }


def test_table_metadata_and_headers():
    items = [_item(3), _item(5)]
    metadata = {"resourceVersion": "9", "continue": "c"}
    body = json.loads(printing.table(table.CONFIGMAPS, items, NOW_S, metadata=metadata, headers=False))
    assert body["metadata"] == metadata and not body["columnDefinitions"] and len(body["rows"]) == 2
    assert json.loads(printing.table(table.CONFIGMAPS, items[:1], NOW_S))["metadata"] == {
        "resourceVersion": "3"
    }
    assert json.loads(printing.table(table.CONFIGMAPS, [], NOW_S))["rows"] == []


def test_partial_metadata_list():
    body = json.loads(printing.partial_metadata_list([_item(3)], {"resourceVersion": "9"}))
    assert body["kind"] == "PartialObjectMetadataList"
    assert body["items"][0]["metadata"] == {"resourceVersion": "3", "name": "x", "creationTimestamp": CREATED}
    bare = Item(b'{"metadata":{}}', 4)
    assert json.loads(printing.partial_metadata(bare))["metadata"] == {"resourceVersion": "4"}
