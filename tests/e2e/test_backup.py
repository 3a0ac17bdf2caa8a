"""Backup and restore, encryption, and the store's commands, with a server as an operator runs it; no node is needed."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import ROOT, Api, Object, free_port, wait_for

SECRETS = "/api/v1/namespaces/default/secrets"
MAPS = "/api/v1/namespaces/default/configmaps"
PASSWORD = "correct horse battery staple"


class Server:
    """`orchestrator server` without a node, and the commands beside it."""

    def __init__(self, directory: Path, *settings: str) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.config = directory / "config.toml"
        self.kubeconfig = directory / "kubeconfig"
        self.process: subprocess.Popen[bytes] | None = None
        self._fixed = (
            f'data_dir = "{self.data}"\nrun_dir = "{directory}/run"\nwrite_kubeconfig = "{self.kubeconfig}"\n'
            f"port = {free_port()}\nno_agent = true\n"
            'pod_cidr = "10.66.0.0/16"\nservice_cidr = "10.67.0.0/16"\ndns_address = "10.67.0.10"\n'
        )
        self.configure(*settings)

    def configure(self, *settings: str) -> None:
        self.config.write_text(self._fixed + "".join(f"{line}\n" for line in settings))

    @property
    def api(self) -> Api:
        return Api(self.kubeconfig)

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", "server", "--config", str(self.config)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        wait_for(self._is_ready, "/readyz answers 200")
        wait_for(
            lambda: self.api.call("GET", "/api/v1/namespaces/default").code == 200, "the default namespace"
        )

    def _is_ready(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self.directory / "log").read_text()
        try:
            return self.api.call("GET", "/readyz").code == 200
        except OSError:
            return False

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)

    def run(self, *arguments: str, code: int = 0) -> str:
        """The output of a command that must end with `code`."""
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator", *arguments, "--config", str(self.config)],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def is_on_disk(self, text: str) -> bool:
        """Whether somebody who reads the raw files of the store finds `text`."""
        for path in (self.data / "store").rglob("*"):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # The server may be removing it.
                if text.encode() in path.read_bytes():
                    return True
        return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()


def encoded(name: str, text: str) -> Object:
    return {"metadata": {"name": name}, "stringData": {"password": text}}


def as_of(api: Api, paths: tuple[str, ...] = (MAPS, SECRETS)) -> dict[str, Object]:
    """Every object, its resource version included."""
    return {item["metadata"]["uid"]: item for path in paths for item in api.items(path)}


def test_restored_the_server_is_what_it_was_at_the_backups_revision(server: Server, tmp_path: Path) -> None:
    server.configure('encrypt = ["secrets"]')
    server.start()
    api = server.api
    api.create(SECRETS, encoded("s", PASSWORD))
    stop = threading.Event()

    def write() -> None:
        mine = server.api
        number = 0
        while not stop.is_set():
            mine.create(MAPS, {"metadata": {"name": f"m{number}"}, "data": {"n": str(number)}})
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_for(lambda: len(api.items(MAPS)) > 20, "twenty objects")
        server.run("backup", str(tmp_path / "backup"))
        seen = len(api.items(MAPS))
        wait_for(lambda: len(api.items(MAPS)) > seen + 10, "more objects after the backup")
    finally:
        stop.set()
        writer.join()
    manifest = manifest_of(tmp_path / "backup")
    listed = api.get(f"{MAPS}?resourceVersion={manifest['revision']}&resourceVersionMatch=Exact")
    expected = {item["metadata"]["name"]: item for item in listed["items"]}
    later = int(api.get(MAPS)["metadata"]["resourceVersion"])
    secret = api.get(f"{SECRETS}/s")
    assert 20 <= len(expected) < len(api.items(MAPS))
    kubeconfig = server.kubeconfig.read_text()
    assert "running" in server.run("restore", str(tmp_path / "backup"), "--force", code=1)
    server.stop()

    assert "holds data already" in server.run("restore", str(tmp_path / "backup"), code=1)
    server.run("restore", str(tmp_path / "backup"), "--force")
    server.start()
    (tmp_path / "old").write_text(kubeconfig)
    api = Api(tmp_path / "old")
    assert {item["metadata"]["name"]: item for item in api.items(MAPS)} == expected
    assert api.get(f"{SECRETS}/s") == secret
    assert int(api.get(MAPS)["metadata"]["resourceVersion"]) > later
    for revision in (manifest["revision"], later):
        answer = api.call("GET", f"{MAPS}?watch=true&resourceVersion={revision}&timeoutSeconds=5")
        assert '"code":410' in answer.text
    assert not server.is_on_disk("battery")


def manifest_of(path: Path) -> Object:
    done = subprocess.run(["tar", "-xOf", str(path), "manifest.json"], capture_output=True, check=True)
    found: Object = json.loads(done.stdout)
    assert path.stat().st_mode & 0o777 == 0o600
    return found


def test_encryption_switched_on_and_rotated_leaves_nothing_of_the_old_form(server: Server) -> None:
    text = "Y29ycmVjdCBob3JzZQ=="
    server.start()
    server.api.create(SECRETS, {"metadata": {"name": "s"}, "data": {"password": text}})
    assert server.is_on_disk(text)
    assert "nothing is encrypted" in server.run("store", "rotate-key", code=1)
    server.stop()

    server.configure('encrypt = ["secrets"]')
    server.start()
    wait_for(lambda: not server.is_on_disk(text), "what was plain is sealed")
    keys = server.data / "encryption-keys.json"
    assert keys.stat().st_mode & 0o777 == 0o600
    wait_for(lambda: server.json("store", "stats")["encryption"]["complete"], "the rewrite is complete")
    first = keys.read_text()
    done = server.json("store", "rotate-key")
    assert (done["dropped_keys"], done["key"] in first) == (1, False)
    assert done["resealed"] >= 1
    assert [key["id"] for key in json.loads(keys.read_text())["keys"]] == [done["key"]]
    assert server.api.get(f"{SECRETS}/s")["data"] == {"password": text}


def test_an_admin_looks_after_the_store_of_a_running_server(server: Server) -> None:
    server.start()
    admin = server.api
    admin.create(MAPS, {"metadata": {"name": "m"}, "data": {"v": "x"}})
    for number in range(30):
        admin.merge(f"{MAPS}/m", {"data": {"v": str(number) + "x" * 100_000}})
    assert "configmaps" in server.run("store", "stats")
    server.run("store", "check")
    found = server.json("store", "compact")
    assert found["after"]["compact_revision"] > found["before"]["compact_revision"]
    assert found["after"]["live_bytes"] < 1_000_000
    assert len(admin.get(f"{MAPS}/m")["data"]["v"]) > 100_000

    assert admin.call("DELETE", "/orchestrator/store").code == 405
    assert admin.call("GET", "/orchestrator/other").code == 404
    for verb, path in (("get", "/orchestrator/store"), ("post", "/orchestrator/store/compact")):
        asked = {"user": "jane", "nonResourceAttributes": {"verb": verb, "path": path}}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": asked}
        answer = admin.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        assert answer["status"]["allowed"] is False
