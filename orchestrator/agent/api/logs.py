"""Container logs as bytes: which incarnation, which lines, in the form that `kubectl logs` prints."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from orchestrator.agent import podspec
from orchestrator.agent.pods.worker import PodWorker
from orchestrator.api.errors import BadRequest, NotFound
from orchestrator.api.item import Object
from orchestrator.runtime.interface import Container, LogLine, LogOptions, Runtime

_WAITING = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


@dataclass(frozen=True, slots=True)
class LogRequest:
    """Options of one request for logs; `limit_bytes` of 0 means all, `stream` empty means both."""

    previous: bool = False
    timestamps: bool = False
    limit_bytes: int = 0
    stream: str = ""
    options: LogOptions = LogOptions()  # noqa: RUF009  # frozen


def parse(query: dict[str, str], now_s: float) -> LogRequest:
    """From the query of the agent's API. Raises `BadRequest`."""
    try:
        tail = query.get("tailLines")
        since_s = now_s - float(query["sinceSeconds"]) if "sinceSeconds" in query else 0.0
        if query.get("sinceTime"):
            since_s = podspec.seconds(query["sinceTime"])
        return LogRequest(
            previous=_flag(query, "previous"),
            timestamps=_flag(query, "timestamps"),
            limit_bytes=int(query.get("limitBytes", 0)),
            stream=query.get("stream", "").lower(),
            options=LogOptions(
                follow=_flag(query, "follow"), tail_lines=int(tail) if tail else None, since_s=since_s
            ),
        )
    except ValueError as error:
        raise BadRequest(f"log options: {error}") from error


def choose(worker: PodWorker, name: str, *, previous: bool) -> Container:
    """The incarnation whose log is asked for. Raises `BadRequest`, `NotFound` in Kubernetes' words."""
    pod = worker.pod["metadata"]["name"]
    if podspec.find_container(worker.pod, name) is None:
        raise NotFound(f'container "{name}" not found in pod "{pod}"')
    newest, before = worker.seen.newest(name), worker.seen.previous(name)
    if previous:
        if before is None:
            raise BadRequest(f'previous terminated container "{name}" in pod "{pod}" not found')
        return before
    if newest is None:
        raise BadRequest(f'container "{name}" in pod "{pod}" is waiting to start: {_waits(worker.pod, name)}')
    # One that was never started has no log; the one before tells why.
    return before if newest.state == "created" and before is not None else newest


def _waits(pod: Object, name: str) -> str:
    """Why a container has not started, as far as its status tells."""
    status = pod.get("status") or {}
    for field in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for entry in status.get(field) or ():
            if entry["name"] == name:
                reason = ((entry.get("state") or {}).get("waiting") or {}).get("reason", "")
                return _WAITING.get(reason, reason or "ContainerCreating")
    return "ContainerCreating"


async def read(runtime: Runtime, container: Container, request: LogRequest) -> AsyncIterator[bytes]:
    """The log's bytes, line by line, until its end or `limit_bytes`."""
    left, begun = request.limit_bytes or None, dict.fromkeys(("stdout", "stderr"), True)
    async with aclosing(runtime.logs(container.id, request.options)) as lines:  # type: ignore[type-var]
        async for line in lines:
            if request.stream in ("stdout", "stderr") and line.stream != request.stream:
                continue
            data = _format(line, stamped=request.timestamps and begun[line.stream])
            begun[line.stream] = not line.partial
            if left is not None:
                data = data[:left]
                left -= len(data)
            yield data
            if left == 0:
                return


def _format(line: LogLine, *, stamped: bool) -> bytes:
    """Its pieces make up a long line again: only the first has a time, only the last a newline."""
    data = line.data if line.partial else line.data + b"\n"
    return f"{line.time} ".encode() + data if stamped else data


def _flag(query: dict[str, str], name: str) -> bool:
    return query.get(name, "") in ("true", "1")
