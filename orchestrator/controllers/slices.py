"""Spreading endpoints over EndpointSlices so that slices change as little as possible. Pure.

Shared by the controllers that make slices: from pods, and from the Endpoints that users write.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from orchestrator.api.item import Object
from orchestrator.controllers.backends import Port

SERVICE_LABEL = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"

PortKey = tuple[Port, ...]


@dataclass(slots=True)
class Plan:
    """Slices to write. Everything that is in none of the lists stays as it is."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    unspread: dict[str, str] = field(default_factory=dict)
    """Why the endpoints of a family are meant for no zones though hints are asked for; empty text where they are."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What all slices of one owner have in common.

    `owner` is its metadata, `reference` the entry by which it owns them. `annotations` of None are left as they are.
    `triggered` is when the newest cause of a change was, written with something else only. `identity` tells
    endpoints apart; a slice takes `limit` of them.
    """

    owner: Object
    reference: Object
    labels: Mapping[str, str]
    annotations: Mapping[str, str] | None
    triggered: str
    identity: Callable[[Object], str]
    limit: int


def plan_family(
    steps: Plan,
    frame: Frame,
    kind: str,
    desired: dict[PortKey, dict[str, Object]],
    existing: list[Object],
    *,
    keep_one: bool = True,
) -> None:
    """What to do to `existing` slices of one address family, so that they hold `desired`, by ports and identity.

    With `keep_one` a slice without endpoints stays, or is made, where nothing is desired.
    """  # fmt: skip
    by_ports: dict[PortKey, list[Object]] = {ports: [] for ports in desired}
    unwanted: list[Object] = []
    for old in existing:
        by_ports.get(ports_of(old), unwanted).append(old)
    for ports, endpoints in desired.items():
        contents, surplus = pack(endpoints, by_ports[ports], frame.identity, frame.limit)
        unwanted.extend(surplus)
        for before, entries in contents:
            _write(steps, frame, kind, ports, before, entries)
    if not desired and keep_one:
        unwanted.sort(key=lambda s: (bool(s.get("endpoints")), bool(s.get("ports"))))
        _write(steps, frame, kind, (), unwanted.pop(0) if unwanted else None, [])
    steps.delete.extend(unwanted)


def pack(
    endpoints: dict[str, Object], existing: list[Object], identity: Callable[[Object], str], limit: int
) -> tuple[list[tuple[Object | None, list[Object]]], list[Object]]:
    """Distribute `endpoints` (by identity) over slices of at most `limit`: one stays in its slice; new ones go to
    slices that change anyway, then into the fullest slice that takes all of them, then into new slices.

    Returns (slice or None for a new one, its endpoints) for every slice that stays, and slices to delete.
    """
    rest = dict(endpoints)
    kept: list[tuple[Object, list[Object], bool]] = []
    surplus = []
    for before in existing:
        identities = map(identity, before.get("endpoints") or ())
        entries = [rest.pop(key) for key in identities if key in rest]
        if entries:
            kept.append((before, entries, entries != before.get("endpoints")))
        else:
            surplus.append(before)
    new = list(rest.values())
    for _, entries, changed in sorted(kept, key=lambda k: -len(k[1])):
        if changed and new:
            _move(new, entries, limit)
    if new:
        fitting = [entries for _, entries, _ in kept if len(entries) + len(new) <= limit]
        if fitting and len(new) < limit:
            _move(new, max(fitting, key=len), limit)
    contents: list[tuple[Object | None, list[Object]]] = [(before, entries) for before, entries, _ in kept]
    while new:
        entries = []
        _move(new, entries, limit)
        contents.append((surplus.pop(0) if surplus else None, entries))
    return contents, surplus


def _move(source: list[Object], target: list[Object], limit: int) -> None:
    """As many of `source` as `target` has room for."""
    room = limit - len(target)
    target.extend(source[:room])
    del source[:room]


def _write(
    steps: Plan, frame: Frame, kind: str, ports: PortKey, before: Object | None, entries: list[Object]
) -> None:
    """Put the slice into the plan unless it already is what it shall be."""
    content = {"ports": [port.to_json() for port in ports], "endpoints": entries}
    if before is None:
        steps.create.append(_new_slice(frame, kind) | content)
        return
    metadata = before["metadata"]
    held = metadata.get("annotations") or {}
    lasting = {name: value for name, value in held.items() if name != TRIGGER_TIME}
    wanted = lasting if frame.annotations is None else dict(frame.annotations)
    same = ports_of(before) == ports and (before.get("endpoints") or []) == entries
    if same and metadata.get("labels") == frame.labels and lasting == wanted:
        return
    changed = {**metadata, "labels": dict(frame.labels), "annotations": _triggered(frame, wanted)}
    steps.update.append({**before, "metadata": changed, **content})


def _triggered(frame: Frame, annotations: Mapping[str, str]) -> dict[str, str]:
    return {**annotations, **({TRIGGER_TIME: frame.triggered} if frame.triggered else {})}


def _new_slice(frame: Frame, kind: str) -> Object:
    metadata: Object = {
        "generateName": f"{frame.owner['name']}-",
        "namespace": frame.owner["namespace"],
        "labels": dict(frame.labels),
        "ownerReferences": [frame.reference],
    }
    annotations = _triggered(frame, frame.annotations or {})
    if annotations:
        metadata["annotations"] = annotations
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": kind,
    }


def ports_of(existing: Object) -> PortKey:
    return tuple(
        Port(port.get("name", ""), port.get("protocol", "TCP"), port["port"], port.get("appProtocol", ""))
        for port in existing.get("ports") or ()
    )
