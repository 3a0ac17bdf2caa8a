"""A watch of the pods of the default namespace in a thread: when each became Ready, and when it was gone."""

import http.client
import json
import threading
import time
from types import TracebackType
from typing import Any

from tests.bench.cluster import BenchCluster

PATH = "/api/v1/namespaces/default/pods?watch=1&resourceVersion=0"


class PodWatch:
    """`with PodWatch(cluster) as watch:`; times are those of `time.perf_counter`."""

    def __init__(self, cluster: BenchCluster) -> None:
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1", cluster.port, context=cluster.admin_context()
        )
        self._changed = threading.Condition()
        self._ready: dict[str, float] = {}
        self._gone: dict[str, float] = {}
        self._writes: dict[str, int] = {}
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "PodWatch":
        self._connection.request("GET", PATH)
        self._answer = self._connection.getresponse()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection.sock is not None:
            self._connection.sock.close()

    def ready_s(self, names: list[str], timeout_s: float) -> dict[str, float]:
        """When each of these became Ready, once all are."""
        return self._wait(self._ready, names, timeout_s)

    def gone_s(self, names: list[str], timeout_s: float) -> dict[str, float]:
        """When each of these was gone, once all are."""
        return self._wait(self._gone, names, timeout_s)

    def writes(self, name: str) -> int:
        """How often the pod was written after it was bound, up to Ready."""
        return self._writes.get(name, 0)

    def _wait(self, times: dict[str, float], names: list[str], timeout_s: float) -> dict[str, float]:
        with self._changed:
            if not self._changed.wait_for(lambda: times.keys() >= set(names), timeout_s):
                raise RuntimeError(f"not within {timeout_s:.0f} s: {sorted(set(names) - times.keys())[:5]}")
            return {name: times[name] for name in names}

    def _follow(self) -> None:
        while line := self._answer.readline():
            self._take(json.loads(line), time.perf_counter())

    def _take(self, event: dict[str, Any], now_s: float) -> None:
        pod = event["object"]
        name = pod["metadata"]["name"]
        with self._changed:
            if event["type"] == "DELETED":
                self._gone[name] = now_s
            elif name not in self._ready:
                conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", ())}
                # The agent's writes carry the address of its node; that of the binding does not yet.
                self._writes[name] = self._writes.get(name, 0) + ("hostIP" in pod["status"])
                if conditions.get("Ready") == "True":
                    self._ready[name] = now_s
            self._changed.notify_all()
