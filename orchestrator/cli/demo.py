"""`orchestrator demo`: builds the demo's image, runs the demo on this host's cluster and shows what runs.

The installer's last step. Every step is a line with the time since the start; a second run changes nothing
and says so.
"""

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import click
from tabulate import tabulate

from orchestrator import config as settings
from orchestrator.api.errors import ApiError, NotFound, ServiceUnavailable, Timeout
from orchestrator.api.item import Object
from orchestrator.api.options import ListOptions
from orchestrator.api.resources import DEPLOYMENTS, NODES, PODS, SERVICES
from orchestrator.base.errors import StartupError
from orchestrator.cli.apply import apply, read
from orchestrator.cli.demo_image import TAG, archive
from orchestrator.client.https import HttpsClient
from orchestrator.client.interface import Client
from orchestrator.config import Config
from orchestrator.pki.kubeconfig import connection

POLL_S = 0.3
REQUEST_DEADLINE_S = 5.0
REQUESTS = 12
"""Enough that three pods all answer, but for one run in forty or so."""

__all__ = ["TAG", "command"]


@click.command("demo", help="Build the demo's image; with --apply also run it and show what runs.")
@click.option("--config", "file", type=click.Path(path_type=Path), default=None, help="Config file (TOML).")
@click.option(
    "--apply", "manifest", type=click.Path(path_type=Path), default=None, help="The demo's manifest."
)
@click.option(
    "--timeout", "timeout_s", type=float, default=180.0, help="Seconds until node and pods must run."
)
def command(file: Path | None, manifest: Path | None, timeout_s: float) -> None:
    config = settings.load(file, {})
    asyncio.run(_run(config, manifest, timeout_s))


async def _run(config: Config, manifest: Path | None, timeout_s: float) -> None:
    steps = Steps(timeout_s)
    steps.say(f"image {TAG}: " + await _load_image(config))
    if manifest is None:
        return
    server, context = connection(config.write_kubeconfig)
    client = HttpsClient(server, context)
    try:
        await _show(client, config, manifest, steps)
    except ApiError as error:
        raise StartupError(
            f"The API at {server} refused: {error.message}.", "Look at the server's log and run it again."
        ) from error
    finally:
        await client.close()


class Steps:
    """Progress on the terminal, and the deadline for waiting."""

    def __init__(self, timeout_s: float) -> None:
        self._start_s = time.monotonic()
        self._timeout_s = timeout_s

    def say(self, text: str) -> None:
        click.echo(f"[{time.monotonic() - self._start_s:6.1f} s] {text}")

    async def until(self, look: Callable[[], Awaitable[tuple[bool, str]]]) -> None:
        """Look again and again until it is true; tells every change. Raises `StartupError` in the end."""
        told = ""
        while True:
            done, text = await look()
            if text != told:
                self.say(text)
                told = text
            if done:
                return
            if time.monotonic() - self._start_s > self._timeout_s:
                raise StartupError(
                    f"Not done after {self._timeout_s:.0f} s: {text}.",
                    "Look at `kubectl describe node` and `kubectl get events`, and at the server's log.",
                )
            await asyncio.sleep(POLL_S)


async def _load_image(config: Config) -> str:
    from orchestrator.base.clock import SystemClock
    from orchestrator.base.tasks import Supervisor
    from orchestrator.runtime.docker import DockerRuntime
    from orchestrator.runtime.select import DOCKER_ENDPOINT

    clock = SystemClock()
    runtime = DockerRuntime(
        config.runtime_endpoint or DOCKER_ENDPOINT, "000000", clock, Supervisor("demo", clock)
    )
    try:
        before = await runtime.image(TAG)
        await runtime.load_image(await asyncio.to_thread(archive))
        after = await runtime.image(TAG)
    finally:
        await runtime.close()
    return "unchanged" if before and after and before.id == after.id else "built from busybox and loaded"


async def _show(client: Client, config: Config, manifest: Path, steps: Steps) -> None:
    await steps.until(lambda: _node_ready(client))
    objects = read(manifest)
    for obj in objects:
        change = await apply(client, obj)
        steps.say(f"{obj['kind'].lower()} {obj['metadata']['name']}: {change}")
    for obj in objects:
        if obj["kind"] == "Deployment":
            await steps.until(lambda obj=obj: _rolled_out(client, obj))  # type: ignore[misc]
    node = (await client.list(NODES)).items[0].object
    await _tables(client, objects)
    for url in await _urls(client, objects, node):
        click.echo(f"\n$ curl {url}\n{await _answer(url, steps)}")
    click.echo(_next(config, objects))


async def _node_ready(client: Client) -> tuple[bool, str]:
    try:
        nodes = [item.object for item in (await client.list(NODES)).items]
    except (ServiceUnavailable, Timeout) as error:
        return False, f"waiting for the API: {error.message}"
    ready = [node["metadata"]["name"] for node in nodes if _condition(node, "Ready") == "True"]
    if ready:
        return True, f"node {', '.join(ready)} is Ready"
    return False, "waiting for the node to be Ready"


async def _rolled_out(client: Client, obj: Object) -> tuple[bool, str]:
    """As `kubectl rollout status` judges."""
    name = obj["metadata"]["name"]
    try:
        found = await client.get(DEPLOYMENTS, name, obj["metadata"].get("namespace", "default"))
    except NotFound:
        return False, f"deployment {name} is gone"
    status, wanted = found.get("status") or {}, found["spec"].get("replicas", 1)
    counts = [status.get(field, 0) for field in ("updatedReplicas", "availableReplicas", "replicas")]
    current = status.get("observedGeneration", 0) >= found["metadata"]["generation"]
    return current and counts == [wanted] * 3, f"deployment {name}: {counts[1]} of {wanted} pods available"


def _condition(obj: Object, kind: str) -> str:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((condition["status"] for condition in conditions if condition["type"] == kind), "")


async def _tables(client: Client, objects: list[Object]) -> None:
    selector: dict[str, str] = next(
        (o["spec"]["selector"]["matchLabels"] for o in objects if o["kind"] == "Deployment"), {}
    )
    text = ",".join(f"{key}={value}" for key, value in selector.items())
    pods = [item.object for item in (await client.list(PODS, "default", ListOptions(text))).items]
    names = [obj["metadata"]["name"] for obj in objects if obj["kind"] == "Service"]
    services = [await client.get(SERVICES, name, "default") for name in names]
    click.echo()
    click.echo(_table("Pods", ("NAME", "READY", "STATUS", "IP", "NODE"), map(_pod_row, pods)))
    click.echo(_table("Services", ("NAME", "TYPE", "CLUSTER-IP", "PORTS"), map(_service_row, services)))


def _table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return f"{title}\n{tabulate(list(rows), columns, tablefmt='rounded_outline')}"


def _pod_row(pod: Object) -> tuple[str, ...]:
    status = pod.get("status") or {}
    states = status.get("containerStatuses") or ()
    ready = f"{sum(state['ready'] for state in states)}/{len(pod['spec']['containers'])}"
    phase = "Terminating" if pod["metadata"].get("deletionTimestamp") else status.get("phase", "")
    return pod["metadata"]["name"], ready, phase, status.get("podIP", ""), pod["spec"].get("nodeName", "")


def _service_row(service: Object) -> tuple[str, ...]:
    spec = service["spec"]
    ports = (
        f"{port['port']}" + (f":{port['nodePort']}" if "nodePort" in port else "") for port in spec["ports"]
    )
    return service["metadata"]["name"], spec["type"], spec["clusterIP"], ", ".join(ports)


async def _urls(client: Client, objects: list[Object], node: Object) -> list[str]:
    """One per Service: through its own address, or through the node's where it has a node port."""
    address = _address(node)
    urls = []
    for obj in objects:
        if obj["kind"] == "Service":
            spec = (await client.get(SERVICES, obj["metadata"]["name"], "default"))["spec"]
            port = spec["ports"][0]
            urls.append(
                f"http://{address}:{port['nodePort']}/"
                if "nodePort" in port
                else f"http://{spec['clusterIP']}:{port['port']}/"
            )
    return urls


def _address(node: Object) -> str:
    return next(str(a["address"]) for a in node["status"]["addresses"] if a["type"] == "InternalIP")


async def _answer(url: str, steps: Steps) -> str:
    """What one request gets, and how many different pods answered several. Raises `StartupError`."""
    first = ""

    async def look() -> tuple[bool, str]:
        nonlocal first
        try:
            first = await asyncio.to_thread(fetch, url)
        except (urllib.error.URLError, OSError) as error:
            return False, f"waiting for {url}: {error}"
        return True, f"{url} answers"

    await steps.until(look)
    answers = {first}
    for _ in range(REQUESTS - 1):
        answers.add(await asyncio.to_thread(fetch, url))
    return f"{first.rstrip()}\n({REQUESTS} requests were answered by {len(answers)} pods)"


def fetch(url: str) -> str:
    """The body, past every proxy. Raises `OSError`."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=REQUEST_DEADLINE_S) as response:
        return str(response.read().decode())


def _next(config: Config, objects: list[Object]) -> str:
    name = next((o["metadata"]["name"] for o in objects if o["kind"] == "Deployment"), "web")
    return (
        f"\nTry next, with kubectl 1.27 or later, after export KUBECONFIG={config.write_kubeconfig}\n"
        "  kubectl get all -A -o wide\n"
        f"  kubectl scale deployment {name} --replicas 5 && kubectl rollout status deployment {name}\n"
        f"  kubectl logs -f -l app={name} --prefix\n"
    )
