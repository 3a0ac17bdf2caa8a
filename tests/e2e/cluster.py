"""A server under test as a process of its own, and the ways in: kubectl and plain HTTPS requests."""

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import yaml

from tests.e2e.inventory import MARKER

START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 15.0
WAIT_S = 60.0
COMMAND_DEADLINE_S = 90.0
POLL_S = 0.1
ROOT = Path(__file__).parents[2]

Object = dict[str, Any]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def wait_for(look: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """What `look` returns as soon as that is true. Fails telling what it was last."""
    until_s = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < until_s, f"not within {timeout_s:.0f} s: {what}; last: {found!r}"
        time.sleep(POLL_S)


class Answer:
    """Status code and decoded body of one request."""

    def __init__(self, code: int, body: bytes) -> None:
        self.code = code
        self.text = body.decode(errors="replace")

    @property
    def body(self) -> Object:
        found: Object = json.loads(self.text)
        return found


class Api:
    """Requests as the cluster's admin."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.server = cluster["server"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as pem:
            for part in ("client-certificate-data", "client-key-data"):
                pem.write(base64.b64decode(user[part]))
            pem.flush()
            self._context.load_cert_chain(pem.name)

    def call(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> Answer:
        """One request on a connection of its own. `body` is sent as it is when it is bytes."""
        address = urlsplit(self.server)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": content_type} if data is not None else {}
        connection = http.client.HTTPSConnection(
            str(address.hostname), address.port, context=self._context, timeout=30
        )
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Object:
        """The object, which must exist."""
        answer = self.call("GET", path)
        assert answer.code == 200, f"GET {path}: {answer.code} {answer.text}"
        return answer.body

    def items(self, path: str) -> list[Object]:
        found: list[Object] = self.get(path)["items"]
        return found

    def create(self, path: str, obj: Object) -> Object:
        answer = self.call("POST", path, obj)
        assert answer.code == 201, f"POST {path}: {answer.code} {answer.text}"
        return answer.body

    def merge(self, path: str, patch: Object) -> Object:
        answer = self.call("PATCH", path, patch, "application/merge-patch+json")
        assert answer.code == 200, f"PATCH {path}: {answer.code} {answer.text}"
        return answer.body

    def delete(self, path: str) -> None:
        answer = self.call("DELETE", path)
        assert answer.code in (200, 202, 404), f"DELETE {path}: {answer.code} {answer.text}"


class Kubectl:
    """One kubectl, with a home of its own so that it leaves no cache behind."""

    def __init__(self, program: str, kubeconfig: Path, home: Path) -> None:
        self.program = program
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "KUBECONFIG": str(kubeconfig),
            MARKER: "1",
        }

    def start(self, *arguments: str, **settings: Any) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self.program, *arguments], env=self._environment | settings.pop("env", {}), text=True, **settings
        )

    def run(
        self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None
    ) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        done = subprocess.run(
            [self.program, *arguments],
            env=self._environment | (env or {}),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_DEADLINE_S,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def __call__(self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> str:
        """The output of a command that must succeed."""
        code, output, errors = self.run(*arguments, stdin=stdin, env=env)
        assert code == 0, f"kubectl {' '.join(arguments)} ended with {code}: {errors}{output}"
        return output

    def json(self, *arguments: str, stdin: str = "") -> Any:
        return json.loads(self(*arguments, "-o", "json", stdin=stdin))


class Cluster:
    """`orchestrator server` in a directory of its own, with ports and ranges that nobody else has."""

    def __init__(self, directory: Path, engine: str, runtime: str = "docker", net: int = 62) -> None:
        """Pods get 10.`net`.0.0/16 and Services the /16 after it; `engine` is the socket of a `runtime`."""
        self.directory = directory
        self.engine = engine
        self.runtime = runtime
        self.config = directory / "config.toml"
        self.kubeconfig = directory / "kubeconfig"
        self.log = directory / "log"
        self.manifests = directory / "manifests"
        self.manifests.mkdir()
        self.process: subprocess.Popen[bytes] | None = None
        self.answered_s = 0.0
        self.config.write_text(
            f'data_dir = "{directory}/data"\n'
            f'run_dir = "{directory}/run"\n'
            f'write_kubeconfig = "{self.kubeconfig}"\n'
            f'runtime = "{runtime}"\n'
            f'runtime_endpoint = "{engine}"\n'
            f"port = {free_port()}\n"
            f"agent_port = {free_port()}\n"
            f'static_pod_path = "{self.manifests}"\n'
            f'pod_cidr = "10.{net}.0.0/16"\n'
            f'service_cidr = "10.{net + 1}.0.0/16"\n'
            f'dns_address = "10.{net + 1}.0.10"\n'
        )

    @property
    def instance(self) -> str:
        return (self.directory / "data/instance").read_text().strip()

    @property
    def api(self) -> Api:
        return Api(self.kubeconfig)

    @property
    def node(self) -> Object:
        return self.api.items("/api/v1/nodes")[0]

    @property
    def node_ip(self) -> str:
        return next(str(a["address"]) for a in self.node["status"]["addresses"] if a["type"] == "InternalIP")

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "orchestrator", *arguments, "--config", str(self.config)]

    def start(self) -> None:
        """Start and wait until it is ready and its node too.

        `answered_s` is when it first gave its pods, or would have, had nobody else used the processors.
        """
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("server"), cwd=ROOT, stdout=log, stderr=log, env=_environment()
            )
        wait_for(lambda: self._answers("/api/v1/pods"), "the API answers", START_DEADLINE_S)
        self.answered_s = time.monotonic() - self._waited_for_cpu_s()
        wait_for(lambda: self._answers("/readyz"), "/readyz answers 200", START_DEADLINE_S)
        wait_for(self._node_ready, "the node is Ready")

    def _waited_for_cpu_s(self) -> float:
        """How long the server's main thread stood in the run queue, ready to run."""
        assert self.process is not None
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[1]) / 1e9

    def _node_ready(self) -> bool:
        return any(condition(node, "Ready") == "True" for node in self.api.items("/api/v1/nodes"))

    def _answers(self, path: str) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the server has ended: {self.tail()}"
        if not self.kubeconfig.exists():
            return False
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.api.call("GET", path).code == 200
        return False

    def kill(self) -> None:
        """As a crash does it."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(STOP_DEADLINE_S)

    def stop(self) -> None:
        """As its service manager does it; one that does not obey is killed and fails the run."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def clean_up(self) -> None:
        """Stop, then take everything off the host."""
        try:
            self.stop()
        finally:
            done = subprocess.run(
                self.command("cleanup", "--purge", "--images"),
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
        assert done.returncode == 0, done.stdout + done.stderr

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def containers(self, **labels: str) -> list[Object]:
        """The engine's running containers of this instance, asked past the product."""
        wanted = [f"orchestrator.internal/instance={self.instance}"]
        wanted += [f"io.kubernetes.{key.replace('_', '.')}={value}" for key, value in labels.items()]
        filters = json.dumps({"label": wanted}, separators=(",", ":"))
        found: list[Object] = self.engine_call("GET", f"containers/json?filters={quote(filters)}")
        return found

    def engine_call(self, method: str, path: str) -> Any:
        """A request to the engine itself; the decoded answer, if there is one."""
        done = subprocess.run(
            ["curl", "-sf", "-X", method, "--unix-socket", self.engine, f"http://localhost/{path}"],
            capture_output=True,
            check=True,
            timeout=30,
        )
        return json.loads(done.stdout) if done.stdout else None

    @contextlib.contextmanager
    def namespace(self, name: str) -> Iterator[str]:
        """A namespace for one story; what is in it goes with it."""
        api = self.api
        api.create("/api/v1/namespaces", {"metadata": {"name": name}})
        try:
            wait_for(
                lambda: api.call("GET", f"/api/v1/namespaces/{name}/serviceaccounts/default").code == 200,
                f"the default service account in {name}",
            )
            yield name
        finally:
            self.api.delete(f"/api/v1/namespaces/{name}")


def _environment() -> dict[str, str]:
    """Ours, marked; compiled modules are kept as they are where the program is installed."""
    return {**os.environ, MARKER: "1", "PYTHONDONTWRITEBYTECODE": ""}


def condition(obj: Object, kind: str) -> str:
    """`True`, `False`, `Unknown`, or nothing when the object has no such condition."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((str(c["status"]) for c in conditions if c["type"] == kind), "")
