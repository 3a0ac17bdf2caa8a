"""`kill -9` of the daemon: containers run on, are adopted, and nobody notices."""

import time
import urllib.request

import pytest

from tests.e2e import images
from tests.e2e.cluster import condition, wait_for

pytestmark = pytest.mark.e2e

START_DEADLINE_S = 60.0
"""How fast it is belongs to tests.bench.smoke (restart after kill -9)."""


def running(cluster) -> dict[str, int]:
    """Id → start of every container, sandboxes included."""
    return {container["Id"]: container["Created"] for container in cluster.containers()}


def start_time_s(cluster) -> float:
    """From the start of the process to the first answer with the state."""
    began_s = time.monotonic()
    cluster.start()
    return cluster.answered_s - began_s


def test_containers_survive_and_are_adopted(cluster, api, namespace):
    pods = f"/api/v1/namespaces/{namespace}/pods"
    deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    api.create(deployments, images.web_deployment(replicas=2))
    service = api.create(f"/api/v1/namespaces/{namespace}/services", images.service())
    wait_for(lambda: [condition(p, "Ready") for p in api.items(pods)] == ["True"] * 2, "two ready pods")
    ids, before = running(cluster), {p["metadata"]["uid"]: p["status"] for p in api.items(pods)}
    assert len(ids) >= 4

    cluster.kill()
    assert running(cluster) == ids, "containers died with the daemon"
    url = f"http://{service['spec']['clusterIP']}/"
    assert urllib.request.urlopen(url, timeout=5).read().startswith(b"web-"), (
        "the Service died with the daemon"
    )

    took_s = start_time_s(cluster)
    assert {p["metadata"]["uid"] for p in api.items(pods)} == set(before), "state was lost"
    api.merge(f"{deployments}/web", {"spec": {"replicas": 3}})
    wait_for(
        lambda: [condition(p, "Ready") for p in api.items(pods)] == ["True"] * 3,
        "scaled up by the new daemon",
    )
    assert ids.keys() <= running(cluster).keys(), "containers were made anew"
    for pod in api.items(pods):
        if pod["metadata"]["uid"] in before:
            now, then = pod["status"], before[pod["metadata"]["uid"]]
            assert now["podIP"] == then["podIP"]
            assert now["containerStatuses"][0]["restartCount"] == 0
            assert now["containerStatuses"][0]["containerID"] == then["containerStatuses"][0]["containerID"]
            assert now["containerStatuses"][0]["state"] == then["containerStatuses"][0]["state"]
    assert took_s < START_DEADLINE_S, f"the API answered after {took_s:.1f} s"
