"""A server of its own for a benchmark: own directories, free ports, own ranges; removed without a trace."""

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

POD_CIDR, SERVICE_CIDR, DNS = "10.82.0.0/16", "10.83.0.0/16", "10.83.0.10"


class BenchCluster:
    """`with BenchCluster() as cluster:` starts a server and waits for `/readyz`; the end removes it."""

    def __init__(self, *flags: str) -> None:
        self._flags = flags
        self._directory = Path(tempfile.mkdtemp(prefix="orc-bench-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.ready_s = 0.0
        """Start of the process to the first 200 of `/readyz`."""

    def __enter__(self) -> "BenchCluster":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        subprocess.run(
            [*self._base(), "cleanup", *self._where(), *self._engine(), "--purge"],
            check=False,
            capture_output=True,
        )
        shutil.rmtree(self._directory, ignore_errors=True)

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        flags = [
            *self._where(),
            "--write-kubeconfig",
            str(self.kubeconfig),
            "--port",
            "0",
            "--agent-port",
            "0",
        ]
        ranges = ["--pod-cidr", POD_CIDR, "--service-cidr", SERVICE_CIDR, "--dns-address", DNS]
        self.kubeconfig.unlink(missing_ok=True)
        began_s = time.perf_counter()
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._base(), "server", *flags, *ranges, *self._flags], stderr=log, stdout=log
            )
        while not self._is_ready():
            if self._process.poll() is not None or time.perf_counter() - began_s > 60:
                raise RuntimeError((self._directory / "log").read_text()[-2000:])
            time.sleep(0.01)
        self.ready_s = time.perf_counter() - began_s

    def kill(self) -> None:
        """End the process without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None

    def stop(self) -> None:
        """End the process; workloads stay."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(20)
            self._process = None

    @property
    def kubeconfig(self) -> Path:
        return self._directory / "kubeconfig"

    @property
    def ca(self) -> Path:
        return self._directory / "data" / "pki" / "ca.crt"

    @property
    def instance(self) -> str:
        """What everything that it makes on this host carries in its name."""
        return (self._directory / "data" / "instance").read_text().strip()

    def wait_for_node(self) -> None:
        """Returns when a node is Ready."""
        for _ in range(600):
            nodes = self.call("GET", "/api/v1/nodes")["items"]
            conditions = [c for node in nodes for c in node["status"].get("conditions", ())]
            if any((c["type"], c["status"]) == ("Ready", "True") for c in conditions):
                return
            time.sleep(0.05)
        raise RuntimeError("the node did not become Ready")

    @property
    def port(self) -> int:
        found = re.search(r"server: https://[^:]+:(\d+)", self.kubeconfig.read_text())
        assert found is not None
        return int(found.group(1))

    def resident_mib(self) -> float:
        """Resident memory of the server process."""
        assert self._process is not None
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) / 1024  # type: ignore[union-attr]

    def cpu_s(self) -> float:
        """CPU seconds that the server process has used."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def call(self, method: str, path: str, body: object = None, content: str = "application/json") -> Any:
        """One request as the admin; the decoded answer."""
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": content, "Accept": "application/json"}
        url = f"https://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, data, headers, method=method)
        with urllib.request.urlopen(request, context=self.admin_context(), timeout=30) as answer:
            return json.loads(answer.read())

    def load(self, **plan: Any) -> dict[str, Any]:
        """Run `tests.bench.load` against this server."""
        plan = {"host": "127.0.0.1", "port": self.port, "ca": str(self.ca), **plan}
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.load"],
            input=json.dumps(plan).encode(),
            capture_output=True,
            check=True,
        )
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def token(self) -> str:
        """Of an account that may do everything: decided by RBAC, not by a group that skips it."""
        group = "rbac.authorization.k8s.io"
        binding = {
            "metadata": {"name": "bench"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}],
        }
        self.call("POST", f"/apis/{group}/v1/clusterrolebindings", binding)
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        while not self.call("GET", accounts)["items"]:
            time.sleep(0.05)
        answer = self.call("POST", f"{accounts}/default/token", {"spec": {}})
        return str(answer["status"]["token"])

    def admin_context(self) -> ssl.SSLContext:
        pki = self._directory / "data" / "pki"
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        return context

    def _is_ready(self) -> bool:
        if not self.kubeconfig.exists():
            return False
        try:
            yaml.safe_load(self.kubeconfig.read_text())
            with urllib.request.urlopen(
                f"https://127.0.0.1:{self.port}/readyz",
                context=ssl.create_default_context(cafile=str(self.ca)),
                timeout=5,
            ) as answer:
                return bool(answer.status == 200)
        except (OSError, AssertionError):
            return False

    def _base(self) -> list[str]:
        return [sys.executable, "-m", "orchestrator"]

    def _engine(self) -> list[str]:
        """The flags that say where the engine listens, if there are any."""
        name = "--runtime-endpoint"
        return [name, self._flags[self._flags.index(name) + 1]] if name in self._flags else []

    def _where(self) -> list[str]:
        return ["--data-dir", str(self._directory / "data"), "--run-dir", str(self._directory / "run")]
