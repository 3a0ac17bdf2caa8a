"""Images and pods that the stories run. Nothing is pulled: a web server from busybox, Python from this host."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from orchestrator.runtime.imagetar import Entry, build

WEB = "orchestrator.internal/e2e-web:1"
PORT = 8080
APPLETS = [
    "sh",
    "cat",
    "echo",
    "dd",
    "env",
    "false",
    "grep",
    "hostname",
    "head",
    "httpd",
    "id",
    "kill",
    "ls",
    "nc",
    "printf",
    "ps",
    "rm",
    "sleep",
    "stat",
    "tail",
    "tar",
    "touch",
    "true",
    "tty",
    "wc",
    "wget",
]

SERVE = f"""#!/bin/sh
trap 'sleep 1; exit 0' TERM
echo "serving on $(hostname)"
httpd -f -p {PORT} -h /www &
wait
"""

PAGE = """#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
echo "$(hostname) ${VERSION:-1} $REMOTE_ADDR"
"""


def is_static_busybox() -> bool:
    """Whether there is a busybox that names no interpreter, and so runs in an image of its own."""
    program = Path("/bin/busybox")
    return program.exists() and b"ld-linux" not in program.read_bytes()[:4096]


def web_archive() -> bytes:
    """A web server whose `/` tells pod, VERSION and the client's address, and whose `/ready` can be deleted."""
    files = {
        "/bin/busybox": Entry(Path("/bin/busybox").read_bytes()),
        **{f"/bin/{applet}": Entry(link="busybox") for applet in APPLETS},
        "/bin/serve": Entry(SERVE.encode()),
        "/www/cgi-bin/index.cgi": Entry(PAGE.encode()),
        "/www/ready": Entry(b"ok\n", mode=0o644),
        "/etc/passwd": Entry(b"root:x:0:0:root:/:/bin/sh\n", mode=0o644),
        "/tmp": Entry(mode=0o1777),
    }
    return build(WEB, files, {"Cmd": ["/bin/serve"], "Env": ["PATH=/bin"]})


def load(socket: str, archive: bytes) -> None:
    done = subprocess.run(
        ["curl", "-sf", "--unix-socket", socket, "-H", "Content-Type: application/x-tar", "--data-binary", "@-",
         "http://localhost/images/load?quiet=1"],
        input=archive, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done


def load_into_containerd(socket: str, archive: bytes, instance: str) -> None:
    """Into the namespace of one server, where its node looks for images."""
    done = subprocess.run(
        ["ctr", "-a", socket, "-n", f"orc{instance}", "images", "import", "-"],
        input=archive, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done


def remove(socket: str, tag: str) -> None:
    url = f"http://localhost/images/{tag}?force=1"
    subprocess.run(
        ["curl", "-s", "--unix-socket", socket, "-X", "DELETE", url],
        capture_output=True,
        timeout=60,
        check=False,
    )


def python_pod(name: str, script: str, **spec: Any) -> dict[str, Any]:
    """A pod that runs `script` with this host's Python and the packages of the test environment, read-only."""
    places = ["/usr", "/lib", "/lib64", sys.base_prefix, sys.prefix]
    places = [place for place in dict.fromkeys(places) if Path(place).is_dir()]
    places = [p for p in places if not any(p != q and p.startswith(f"{q}/") for q in places)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "main",
                    "image": WEB,
                    "command": [sys.executable, "-u", "-c", script],
                    "volumeMounts": [
                        {"name": f"host-{number}", "mountPath": place, "readOnly": True}
                        for number, place in enumerate(places)
                    ],
                }
            ],
            "volumes": [
                {"name": f"host-{number}", "hostPath": {"path": place}} for number, place in enumerate(places)
            ],
            **spec,
        },
    }


def web_deployment(name: str = "web", replicas: int = 3, **container: Any) -> dict[str, Any]:
    """A Deployment of web servers that are ready while they have the file `/www/ready`."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "containers": [
                        {
                            "name": "web",
                            "image": WEB,
                            "ports": [{"name": "http", "containerPort": PORT}],
                            "readinessProbe": {
                                "httpGet": {"path": "/ready", "port": "http"},
                                "periodSeconds": 1,
                                "failureThreshold": 1,
                                # A machine that stands still for a second is no failure.
                                "timeoutSeconds": 10,
                            },
                            **container,
                        }
                    ],
                },
            },
        },
    }


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": "web"}, "ports": ports, **spec},
    }


def manifest(*objects: dict[str, Any]) -> str:
    """For `kubectl apply -f -`."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
