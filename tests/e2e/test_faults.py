"""What goes wrong around a node: its engine stops or freezes, the daemon is killed at any time, pods run wild.

`FAULT_ENGINES` names the engines to take, comma separated (all of `ownengine.KINDS` in the nightly campaign; without
it nothing runs, for these stories take minutes), and `FAULT_ROUNDS` how often the daemon is killed.
"""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import images
from tests.e2e.cluster import Api, Cluster, Object, condition, wait_for
from tests.e2e.conftest import lacking
from tests.e2e.ownengine import OwnEngine, on_own_engine

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif("FAULT_ENGINES" not in os.environ, reason="FAULT_ENGINES names no engine"),
]

PODS = "/api/v1/namespaces/default/pods"
ENGINES = os.environ.get("FAULT_ENGINES", "containerd").split(",")
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "3"))
LONG_S = 120.0
"""For what a machine that others share may take long for."""


@pytest.fixture(scope="module", params=ENGINES)
def node(request: pytest.FixtureRequest) -> Iterator[tuple[Cluster, OwnEngine]]:
    if shutil.which("containerd" if request.param == "containerd" else "dockerd") is None:
        lacking(f"{request.param} is not installed")
    if os.geteuid() != 0 or not images.is_static_busybox():
        lacking("an engine needs root, and its pods busybox-static")
    with on_own_engine(request.param) as (cluster, engine):
        wait_for(
            lambda: cluster.api.call("GET", "/api/v1/namespaces/default/serviceaccounts/default").code == 200,
            "the default service account",
        )
        yield cluster, engine


@pytest.fixture
def pods(node: tuple[Cluster, OwnEngine]) -> Iterator[Api]:
    """The API, with every pod away after the story."""
    cluster, engine = node
    yield cluster.api
    for pod in cluster.api.items(PODS):
        cluster.api.delete(f"{PODS}/{pod['metadata']['name']}")
    wait_for(lambda: not cluster.api.items(PODS), "the pods are gone", LONG_S)
    wait_for(lambda: not engine.held(cluster.instance), "the engine has nothing of them", LONG_S)
    wait_for(lambda: not left(cluster), "nothing is left of them on the host", LONG_S)


def left(cluster: Cluster) -> list[str]:
    """Links, mounts, directories and cgroups of pods of this instance, looked for with plain tools."""
    listed = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    links = [line for line in listed.splitlines() if f"orc{cluster.instance}v" in line]
    mounts = [
        line.split()[4]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if f"{cluster.directory}/data/agent/pods/" in line
        or f"{cluster.directory}/run/containerd/sandboxes/" in line
    ]
    folders = list((cluster.directory / "data/agent/pods").glob("*"))
    addresses = list((cluster.directory / "run").glob("**/addresses/[0-9]*"))
    return [*links, *mounts, *map(str, folders), *map(str, addresses)]


def pod(name: str, *command: str, **container: object) -> Object:
    words = list(command) or ["sh", "-c", "trap 'exit 0' TERM; while true; do sleep 1000 & wait; done"]
    main = {"name": "main", "image": images.WEB, "command": words, **container}
    return {"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 2, "containers": [main]}}


def run(api: Api, *names: str) -> dict[str, Object]:
    """Pods that are Ready, by name."""
    for name in names:
        api.create(PODS, pod(name))
    return {name: ready(api, name) for name in names}


def ready(api: Api, name: str) -> Object:
    def look() -> Object | None:
        found = api.get(f"{PODS}/{name}")
        return found if condition(found, "Ready") == "True" else None

    found: Object = wait_for(look, f"{name} is Ready", LONG_S)
    return found


def identity(pod: Object) -> tuple[str, int, str]:
    """What changes when a container is made anew."""
    (status,) = pod["status"]["containerStatuses"]
    return status["containerID"], status["restartCount"], pod["status"]["podIP"]


def test_a_frozen_engine_makes_its_node_not_ready_and_nothing_else(node, pods):
    cluster, engine = node
    before = run(pods, "calm-1", "calm-2")
    engine.freeze()
    try:
        wait_for(lambda: condition(cluster.node, "Ready") == "False", "the node is not Ready", LONG_S)
        pods.create("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "meanwhile"}})
        assert pods.call("DELETE", "/api/v1/namespaces/default/configmaps/meanwhile").code == 200
        late = pod("late")
        late["spec"]["tolerations"] = [{"operator": "Exists"}]
        pods.create(PODS, late)
    finally:
        engine.thaw()
    wait_for(lambda: condition(cluster.node, "Ready") == "True", "the node is Ready again", LONG_S)
    ready(pods, "late")
    for name, was in before.items():
        assert identity(ready(pods, name)) == identity(was)


def test_pods_outlive_a_restart_of_their_engine(node, pods):
    _, engine = node
    before = run(pods, "calm-1", "calm-2")
    engine.stop()
    engine.start()
    run(pods, "late")
    for name, was in before.items():
        if engine.keeps_containers:
            assert identity(ready(pods, name)) == identity(was)
        else:
            wait_for(
                lambda n=name, w=was: identity(ready(pods, n))[0] != identity(w)[0],
                f"{name} is made anew",
                LONG_S,
            )


def test_a_daemon_that_is_killed_at_any_time_finishes_its_work(node, pods):
    """Pods are made and deleted while it dies; in the end those that should run do, and nothing else is there."""
    cluster, _ = node
    rng = random.Random(os.environ.get("AGENT_TEST_SEED", "1"))
    for number in range(ROUNDS):
        api = cluster.api
        for name in (f"stays-{number}", f"goes-{number}"):
            api.create(PODS, pod(name))
        time.sleep(rng.uniform(0, 1.0))
        api.delete(f"{PODS}/goes-{number}")
        time.sleep(rng.uniform(0, 0.6))
        cluster.kill()
        cluster.start()
    wanted = [f"stays-{number}" for number in range(ROUNDS)]
    for name in wanted:
        assert identity(ready(cluster.api, name))[1] == 0, "a container was started twice"
    wait_for(lambda: len(cluster.api.items(PODS)) == len(wanted), "the deleted pods are gone", LONG_S)


def test_floods_and_fork_bombs_stay_inside_their_pod(node, pods):
    """The bomb meets the pod's bound of processes, the flood is rotated; the next pod starts as ever."""
    bomb = "trap '' TERM; while true; do sleep 1000 & done 2>/dev/null"
    pods.create(PODS, pod("bomb", "sh", "-c", bomb, resources={"limits": {"cpu": "200m", "memory": "64Mi"}}))
    flood = (
        "i=0; while [ $i -lt 200000 ]; do echo a line of output that says nothing at all; i=$((i+1)); done"
    )
    pods.create(PODS, pod("flood", "sh", "-c", f"{flood}; exec sleep 1000"))
    ready(pods, "flood")
    run(pods, "next")
    tail = pods.call("GET", f"{PODS}/flood/log?tailLines=2").text
    assert tail.count("a line of output") == 2
