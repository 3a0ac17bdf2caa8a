"""Data outlives its pod, a restart of the daemon, and goes with its claim."""

from pathlib import Path

import pytest

from tests.e2e import images
from tests.e2e.cluster import condition, wait_for

pytestmark = pytest.mark.e2e


def claim(name: str = "data", **spec):
    size = {"requests": {"storage": "64Mi"}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": size, **spec},
    }


def pod(name: str, script: str, volume: dict, **spec):
    container = {
        "name": "main",
        "image": images.WEB,
        "command": ["sh", "-c", f"{script}; sleep 3600"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "readinessProbe": {
            "exec": {"command": ["cat", "/data/words"]},
            "periodSeconds": 1,
            # A machine that stands still for a second is no failure.
            "timeoutSeconds": 10,
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": [{"name": "data", **volume}],
            **spec,
        },
    }


def is_ready(api, path: str):
    return lambda: condition(api.get(path), "Ready") == "True"


def volume_of(api, namespace: str, name: str):
    bound = api.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}")
    assert bound["status"]["phase"] == "Bound"
    return api.get(f"/api/v1/persistentvolumes/{bound['spec']['volumeName']}")


def gone(api, path: str):
    return lambda: api.call("GET", path).code == 404


def test_what_a_pod_writes_is_there_for_the_next_and_goes_with_the_claim(cluster, api, namespace, kubectl):
    pods, claims = (f"/api/v1/namespaces/{namespace}/{kind}" for kind in ("pods", "persistentvolumeclaims"))
    api.create(claims, claim())
    assert api.get(f"{claims}/data")["spec"]["storageClassName"] == "local-path"
    use = {"persistentVolumeClaim": {"claimName": "data"}}
    api.create(pods, pod("first", "echo hello > /data/words", use))
    wait_for(is_ready(api, f"{pods}/first"), "the first pod has written")
    volume = volume_of(api, namespace, "data")
    directory = Path(volume["spec"]["local"]["path"])
    assert (directory / "words").read_text() == "hello\n"
    api.delete(f"{pods}/first")
    wait_for(gone(api, f"{pods}/first"), "the first pod is gone")

    cluster.kill()
    cluster.start()
    # As a user without rights, in a group of its own.
    limited = {"securityContext": {"runAsUser": 4711, "fsGroup": 4712}}
    api.create(pods, pod("second", "echo again >> /data/more", use, **limited))
    wait_for(is_ready(api, f"{pods}/second"), "the second pod sees what the first wrote")
    assert (
        kubectl("exec", "-n", namespace, "second", "--", "cat", "/data/words", "/data/more")
        == "hello\nagain\n"
    )

    grown = {"spec": {"resources": {"requests": {"storage": "128Mi"}}}}
    api.merge(f"{claims}/data", grown)
    wait_for(lambda: api.get(f"{claims}/data")["status"]["capacity"] == {"storage": "128Mi"}, "more room")

    api.delete(f"{claims}/data")
    assert "kubernetes.io/pvc-protection" in api.get(f"{claims}/data")["metadata"]["finalizers"]
    assert directory.is_dir()
    api.delete(f"{pods}/second")
    wait_for(gone(api, f"{claims}/data"), "the claim goes with its last pod")
    wait_for(gone(api, f"/api/v1/persistentvolumes/{volume['metadata']['name']}"), "and its volume")
    assert [entry for entry in directory.parent.iterdir() if not entry.name.startswith(".orchestrator")] == []


def test_an_ephemeral_volume_comes_and_goes_with_its_pod(api, namespace):
    pods, claims = (f"/api/v1/namespaces/{namespace}/{kind}" for kind in ("pods", "persistentvolumeclaims"))
    use = {"ephemeral": {"volumeClaimTemplate": {"spec": claim()["spec"]}}}
    api.create(pods, pod("scratch", "echo hello > /data/words", use))
    wait_for(is_ready(api, f"{pods}/scratch"), "the pod has written")
    volume = volume_of(api, namespace, "scratch-data")
    api.delete(f"{pods}/scratch")
    wait_for(gone(api, f"{claims}/scratch-data"), "the claim goes with its pod")
    wait_for(gone(api, f"/api/v1/persistentvolumes/{volume['metadata']['name']}"), "and its volume")
    assert not Path(volume["spec"]["local"]["path"]).exists()


def test_a_volume_that_was_made_by_hand_is_bound_and_kept(api, namespace, tmp_path):
    pods, claims = (f"/api/v1/namespaces/{namespace}/{kind}" for kind in ("pods", "persistentvolumeclaims"))
    name = f"by-hand-{namespace}"
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": str(tmp_path)},
        "storageClassName": "by-hand",
    }
    path = f"/api/v1/persistentvolumes/{name}"
    api.create("/api/v1/persistentvolumes", {"metadata": {"name": name}, "spec": spec})
    try:
        api.create(claims, claim(storageClassName="by-hand"))
        use = {"persistentVolumeClaim": {"claimName": "data"}}
        api.create(pods, pod("writer", "echo hello > /data/words", use))
        wait_for(is_ready(api, f"{pods}/writer"), "the pod has written")
        assert volume_of(api, namespace, "data")["metadata"]["name"] == name
        api.delete(f"{pods}/writer")
        api.delete(f"{claims}/data")
        wait_for(lambda: api.get(path)["status"]["phase"] == "Released", "the volume is released")
        assert (tmp_path / "words").read_text() == "hello\n"
    finally:
        api.delete(path)
    wait_for(gone(api, path), "the volume is gone")
