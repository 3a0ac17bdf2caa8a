"""Static pods as files say them: one pod per file, JSON or YAML, in a directory or a single file.

1. Names that begin with a dot, directories and what is no regular file are passed over. Of a YAML file the first
   document counts.
2. The pod belongs to this node: its name ends with the node's, it is bound to it, and tolerates every NoExecute taint.
   Without a uid of its own it gets one that follows from node, file and content: a changed file is another pod.
3. A pod that needs objects of the API (secrets, accounts, claims …) is refused: its node must be able to run it alone.
4. What is wrong with a file is an error by its path; the other files count.

Blocking reads; pure beside them. Called by `pods`.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.api.codec import decode_body
from orchestrator.api.errors import ApiError
from orchestrator.api.item import Object

SOURCE = "kubernetes.io/config.source"
HASH = "kubernetes.io/config.hash"
SEEN = "kubernetes.io/config.seen"
MIRROR = "kubernetes.io/config.mirror"
SIZE_BYTES_MAX = 1024 * 1024
FILES_MAX = 1000
PRIORITIES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}

Prepare = Callable[[Object], Object]
"""A pod with its defaults, checked as the API checks one. Raises `ApiError`."""
Signature = tuple[tuple[str, int, int, int], ...]
"""Path, inode, size and time of each file: as long as it is the same, so are the files."""


class BadFile(Exception):
    """Why a file is no pod."""


@dataclass(frozen=True, slots=True)
class Files:
    """What there is: content by path. `errors` by path."""

    signature: Signature
    contents: dict[str, bytes]
    errors: dict[str, str]


def signature(path: Path) -> Signature:
    """Empty where there is nothing. Raises `OSError`."""
    return tuple((str(file), *_mark(found)) for file, found in _files(path))


def read(path: Path) -> Files:
    """Raises `OSError` when the directory can't be read; a file that can't be is an error of its own."""
    marks, contents, errors = [], {}, {}
    for file, found in _files(path):
        marks.append((str(file), *_mark(found)))
        try:
            if found.st_size > SIZE_BYTES_MAX:
                raise BadFile(f"it has more than {SIZE_BYTES_MAX} bytes")
            contents[str(file)] = file.read_bytes()
        except (OSError, BadFile) as error:
            errors[str(file)] = str(error)
    return Files(tuple(marks), contents, errors)


def _files(path: Path) -> list[tuple[Path, os.stat_result]]:
    try:
        top = path.stat()
    except FileNotFoundError:
        return []
    if stat.S_ISREG(top.st_mode):
        return [(path, top)]
    found = []
    for name in sorted(os.listdir(path))[:FILES_MAX]:
        file = path / name
        try:
            facts = file.stat()
        except OSError:
            continue  # It went, or leads nowhere.
        if not name.startswith(".") and stat.S_ISREG(facts.st_mode):
            found.append((file, facts))
    return found


def _mark(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def parse(path: str, content: bytes, node: str, now: str, prepare: Prepare) -> Object:
    """The pod that a file says, ready to be run. Raises `BadFile`."""
    try:
        decoded = decode_body(content, "application/yaml").object
        if (decoded.get("apiVersion"), decoded.get("kind")) != ("v1", "Pod"):
            raise BadFile("it is no Pod of v1")
        if not isinstance(decoded.get("metadata"), dict) or not isinstance(decoded.get("spec"), dict):
            raise BadFile("metadata and spec are required")
        pod = prepare(_placed(decoded, path, content, node, now))
    except ApiError as error:
        raise BadFile(error.message) from None
    for what in needed(pod["spec"]):
        raise BadFile(f"static pods may not reference {what}")
    return pod


def _placed(pod: Object, path: str, content: bytes, node: str, now: str) -> Object:
    """Rule 2."""
    meta, spec = pod["metadata"], pod["spec"]
    digest = hashlib.sha256(b"\0".join((node.encode(), path.encode(), content))).hexdigest()[:32]
    uid = meta.get("uid") or digest
    annotations = {**(meta.get("annotations") or {}), HASH: uid, SEEN: now, SOURCE: "file"}
    metadata = {
        "name": f"{meta.get('name') or ''}-{node.lower()}",
        "namespace": meta.get("namespace") or "default",
        "uid": uid,
        "annotations": annotations,
    }
    if meta.get("labels"):
        metadata["labels"] = meta["labels"]
    everything = {"operator": "Exists", "effect": "NoExecute"}
    tolerations = [*(spec.get("tolerations") or ()), everything]
    named = PRIORITIES.get(spec.get("priorityClassName") or "")
    priority = {"priority": named} if named is not None and "priority" not in spec else {}
    placed = {**spec, **priority, "nodeName": node, "tolerations": tolerations}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": placed}


def needed(spec: Object) -> Iterator[str]:
    """Resources of the API that the pod can't do without."""
    if spec.get("serviceAccountName"):
        yield "serviceaccounts"
    if spec.get("imagePullSecrets"):
        yield "secrets"
    if spec.get("resourceClaims"):
        yield "resourceclaims"
    for volume in spec.get("volumes") or ():
        yield from _needed_by_volume(volume)
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            yield from _needed_by_container(container)


_BY_VOLUME = {
    "secret": "secrets",
    "configMap": "configmaps",
    "persistentVolumeClaim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims",
}
_BY_PROJECTION = {
    "secret": "secrets",
    "configMap": "configmaps",
    "serviceAccountToken": "serviceaccounts",
    "clusterTrustBundle": "clustertrustbundles",
    "podCertificate": "podcertificates",
}
_BY_ENV = {"secretKeyRef": "secrets", "configMapKeyRef": "configmaps"}
_BY_ENV_FROM = {"secretRef": "secrets", "configMapRef": "configmaps"}


def _needed_by_volume(volume: Object) -> Iterator[str]:
    yield from (what for kind, what in _BY_VOLUME.items() if kind in volume)
    for source in (volume.get("projected") or {}).get("sources") or ():
        yield from (what for kind, what in _BY_PROJECTION.items() if kind in source)


def _needed_by_container(container: Object) -> Iterator[str]:
    for variable in container.get("env") or ():
        yield from (what for kind, what in _BY_ENV.items() if kind in (variable.get("valueFrom") or {}))
    for source in container.get("envFrom") or ():
        yield from (what for kind, what in _BY_ENV_FROM.items() if kind in source)
