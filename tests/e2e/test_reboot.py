"""The host went down: of the cluster there is what lies on the disk, and everything comes back from it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e import images
from tests.e2e.cluster import Cluster, condition, wait_for

pytestmark = pytest.mark.e2e


def take_power(cluster: Cluster) -> None:
    """No process, link, rule, mount or file of the running system is left; the engine's disk keeps dead containers."""
    cluster.kill()
    for container in cluster.containers():
        cluster.engine_call("POST", f"containers/{container['Id']}/kill")
    name = f"orc{cluster.instance}"
    for link in json.loads(said("ip", "-j", "link") or "[]"):
        if link["ifname"].startswith(name):
            subprocess.run(["ip", "link", "delete", link["ifname"]], check=False, capture_output=True)
    for line in said("nft", "list", "tables").splitlines():
        if name in line:
            subprocess.run(["nft", "delete", *line.split()], check=True)
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        if str(cluster.directory) in line.split()[1]:
            subprocess.run(["umount", line.split()[1]], check=True)
    shutil.rmtree(cluster.directory / "run")


def said(*command: str) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


def test_pods_of_the_api_and_of_files_are_back_after_a_reboot(cluster, api, namespace):
    pods = f"/api/v1/namespaces/{namespace}/pods"
    api.create(f"/apis/apps/v1/namespaces/{namespace}/deployments", images.web_deployment(replicas=2))
    service = api.create(f"/api/v1/namespaces/{namespace}/services", images.service())
    template = images.web_deployment(replicas=1)["spec"]["template"]["spec"]
    metadata = {"name": "static", "namespace": namespace}
    manifest = cluster.manifests / "static.yaml"
    manifest.write_text(
        json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template})
    )

    def started() -> dict[str, str]:
        """Of each pod that is ready the start of its container."""
        return {
            pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
            for pod in api.items(pods)
            if condition(pod, "Ready") == "True"
        }

    def all_anew(before: dict[str, str]) -> bool:
        now = started()
        return now.keys() == before.keys() and all(now[name] > before[name] for name in before)

    try:
        wait_for(lambda: len(started()) == 3, "three ready pods, one of them of a file")
        before = started()
        assert sum(name.startswith("static-") for name in before) == 1
        take_power(cluster)
        cluster.start()
        wait_for(lambda: all_anew(before), "every pod runs again, under its old name")
        address = f"http://{service['spec']['clusterIP']}/"
        wait_for(lambda: said("curl", "-sf", "-m", "2", address).startswith("web-"), "the Service answers")
    finally:
        manifest.unlink()
    wait_for(lambda: len(api.items(pods)) == 2, "the pod goes with its file")
