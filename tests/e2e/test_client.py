"""The `kubernetes` Python client, unmodified: create, read, change, watch, delete."""

import gc

import kubernetes
import pytest
from kubernetes.client import ApiException

from tests.e2e import images

# The client leaves sockets to the garbage collector.
pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.fixture
def core(cluster):
    with kubernetes.config.new_client_from_config(str(cluster.kubeconfig)) as client:
        yield kubernetes.client.CoreV1Api(client)
        client.rest_client.pool_manager.clear()
    # What it leaves to the collector is collected here, not in somebody else's test.
    gc.collect()


def test_objects_from_creation_to_deletion(core, namespace):
    made = core.create_namespaced_config_map(
        namespace, kubernetes.client.V1ConfigMap(metadata={"generateName": "made-"}, data={"a": "1"})
    )
    name = made.metadata.name
    assert name.startswith("made-")
    patched = core.patch_namespaced_config_map(name, namespace, {"data": {"b": "2"}})
    assert patched.data == {"a": "1", "b": "2"}
    patched.data = {"c": "3"}
    assert core.replace_namespaced_config_map(name, namespace, patched).data == {"c": "3"}
    with pytest.raises(ApiException) as refused:
        core.replace_namespaced_config_map(name, namespace, made)
    assert refused.value.status == 409
    core.delete_namespaced_config_map(name, namespace)
    with pytest.raises(ApiException) as refused:
        core.read_namespaced_config_map(name, namespace)
    assert refused.value.status == 404


def test_a_watch_tells_every_change_in_order(core, namespace):
    start = core.list_namespaced_config_map(namespace).metadata.resource_version
    for number in range(3):
        core.create_namespaced_config_map(namespace, {"metadata": {"name": f"n{number}"}, "data": {"k": "v"}})
    core.patch_namespaced_config_map("n0", namespace, {"data": {"k": "w"}})
    core.delete_namespaced_config_map("n1", namespace)
    watch = kubernetes.watch.Watch()
    seen = []
    for event in watch.stream(
        core.list_namespaced_config_map, namespace, resource_version=start, timeout_seconds=20
    ):
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            watch.stop()
    assert seen == [("ADDED", "n0"), ("ADDED", "n1"), ("ADDED", "n2"), ("MODIFIED", "n0"), ("DELETED", "n1")]


def test_lists_are_selected_and_paged(core, namespace):
    for number in range(5):
        labels = {"parity": "odd" if number % 2 else "even"}
        core.create_namespaced_config_map(namespace, {"metadata": {"name": f"n{number}", "labels": labels}})
    odd = core.list_namespaced_config_map(namespace, label_selector="parity=odd")
    assert [item.metadata.name for item in odd.items] == ["n1", "n3"]
    one = core.list_namespaced_config_map(namespace, field_selector="metadata.name=n2")
    assert [item.metadata.name for item in one.items] == ["n2"]
    names, token = [], ""
    while True:
        page = core.list_namespaced_config_map(namespace, limit=2, _continue=token)
        assert len(page.items) <= 2
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert names == ["kube-root-ca.crt", *(f"n{number}" for number in range(5))]


def test_dry_runs_store_nothing(core, namespace):
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "dry"}}, dry_run="All")
    with pytest.raises(ApiException):
        core.read_namespaced_config_map("dry", namespace)


def test_a_command_in_a_pod(core, api, namespace):
    from kubernetes.stream import stream

    from tests.e2e.cluster import wait_for

    container = {"name": "main", "image": images.WEB, "command": ["sleep", "1000"]}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    core.create_namespaced_pod(namespace, {"metadata": {"name": "shell"}, "spec": spec})
    wait_for(lambda: core.read_namespaced_pod("shell", namespace).status.phase == "Running", "the pod runs")
    session = stream(
        core.connect_get_namespaced_pod_exec,
        "shell",
        namespace,
        command=["sh", "-c", "hostname; exit 4"],
        stdout=True,
        stderr=True,
        stdin=False,
        tty=False,
        _preload_content=False,
    )
    session.run_forever(timeout=20)
    assert session.read_stdout() == "shell\n"
    assert session.returncode == 4
    session.close()
