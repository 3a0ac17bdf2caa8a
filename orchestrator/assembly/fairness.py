"""The objects of API Priority and Fairness: kept as Kubernetes keeps its own, and handed to the server.

1. Mandatory objects always exist with their spec; of the level `exempt` an operator may change the shares.
2. Suggested ones are created where they are missing. Their spec follows ours while their annotation
   `apf.kubernetes.io/autoupdate-spec` is `true`; without one an object that nobody changed (generation 1) gets
   `true`, any other `false`.
3. What has the annotation `true` and is none of ours any more is deleted.
4. Each FlowSchema's condition `Dangling` says whether its level exists.

Every change of the objects wakes it; once a minute it looks anyway. Several servers may do so at the same time.
"""

import asyncio
from collections.abc import Awaitable, Iterable

import structlog

from orchestrator.api.errors import AlreadyExists, ApiError, Conflict, NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS, Resource
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.interface import Client
from orchestrator.informer.cache import Informers
from orchestrator.server.fairness import defaults
from orchestrator.server.fairness.fairness import Fairness, level_name

log = structlog.get_logger(__name__)

RESYNC_S = 60.0
STANDARD: tuple[tuple[Resource, list[Object]], ...] = (
    (PRIORITYLEVELCONFIGURATIONS, defaults.priority_levels()),
    (FLOWSCHEMAS, defaults.flow_schemas()),
)


async def write(client: Client) -> None:
    """Make the objects as they should be. Raises `ApiError`."""
    for resource, standard in STANDARD:
        found = [item.object for item in (await client.list(resource)).items]
        await _write(client, resource, standard, found)


class FairnessKeeper:
    """Keeps the objects and feeds them to `Fairness`. Owner of its task, under the supervisor it is handed."""

    def __init__(
        self, client: Client, informers: Informers, fairness: Fairness, supervisor: Supervisor, clock: Clock
    ) -> None:
        self._client = client
        self._fairness = fairness
        self._supervisor = supervisor
        self._clock = clock
        self._changed = asyncio.Event()
        self._informers = {resource: informers.of(resource) for resource, _ in STANDARD}
        for informer in self._informers.values():
            informer.on_change(lambda old, new: self._changed.set() if old is not new else None)

    def start(self) -> None:
        """Follow the objects from now on."""
        self._supervisor.serve("fairness", self._run)

    async def _run(self) -> None:
        for informer in self._informers.values():
            await informer.synced()
        while True:
            self._changed.clear()
            levels, schemas = (self._objects(resource) for resource, _ in STANDARD)
            self._fairness.configure(schemas, levels)
            try:
                await self._keep(schemas, {level["metadata"]["name"] for level in levels})
            except ApiError as error:
                log.warning("objects of priority and fairness not written", error=error.message)
            await self._wait()

    async def _wait(self) -> None:
        waiting = self._supervisor.spawn("fairness-changed", self._changed.wait())
        try:
            await asyncio.wait((waiting,), timeout=RESYNC_S)
        finally:
            waiting.cancel()

    def _objects(self, resource: Resource) -> list[Object]:
        return [item.object for item in self._informers[resource].list()]

    async def _keep(self, schemas: list[Object], levels: set[str]) -> None:
        for resource, standard in STANDARD:
            await _write(self._client, resource, standard, self._objects(resource))
        now = timestamp(self._clock.now_s())
        for schema in schemas:
            changed = with_dangling(schema, levels, now)
            if changed is not schema:
                await _tolerant(self._client.update(FLOWSCHEMAS, changed, subresource="status"))


async def _write(client: Client, resource: Resource, standard: list[Object], found: list[Object]) -> None:
    create, update, delete = plan(standard, found)
    await asyncio.gather(
        *(_tolerant(client.create(resource, obj)) for obj in create),
        *(_tolerant(client.update(resource, obj)) for obj in update),
        *(_tolerant(client.delete(resource, name)) for name in delete),
    )


async def _tolerant(work: Awaitable[object]) -> None:
    """Another server, or an operator, was faster: what they wrote wakes us again."""
    try:
        await work
    except (AlreadyExists, Conflict, NotFound) as error:
        log.debug("object of priority and fairness changed meanwhile", error=error.message)


def plan(standard: Iterable[Object], found: Iterable[Object]) -> tuple[list[Object], list[Object], list[str]]:
    """Rules 1 to 3: what to create, to update, and the names to delete."""
    by_name = {obj["metadata"]["name"]: obj for obj in found}
    create, update = [], []
    for wanted in standard:
        actual = by_name.pop(wanted["metadata"]["name"], None)
        if actual is None:
            create.append(wanted)
        elif (changed := _maintained(wanted, actual)) is not actual:
            update.append(changed)
    delete = [name for name, obj in by_name.items() if _annotation(obj) == "true"]
    return create, update, delete


def _annotation(obj: Object) -> str:
    return str((obj["metadata"].get("annotations") or {}).get(defaults.AUTOUPDATE, ""))


def _maintained(wanted: Object, actual: Object) -> Object:
    """`actual` as it should be; the same object when it is."""
    said = _annotation(actual)
    mandatory = wanted["metadata"]["name"] in defaults.MANDATORY
    auto = mandatory or (said == "true" if said in ("true", "false") else _untouched(actual))
    changed = actual
    if said != ("true" if auto else "false"):
        annotations = {**(actual["metadata"].get("annotations") or {})}
        annotations[defaults.AUTOUPDATE] = "true" if auto else "false"
        changed = {**actual, "metadata": {**actual["metadata"], "annotations": annotations}}
    if auto and not _agrees(wanted["spec"], actual.get("spec") or {}):
        changed = {**changed, "spec": wanted["spec"]}
    return changed


def _untouched(obj: Object) -> bool:
    return bool(obj["metadata"].get("generation", 1) == 1)


def _agrees(wanted: Object, actual: Object) -> bool:
    """Whether `actual` says what is wanted; the shares of an exempt level are the operator's."""
    if wanted.get("type") == "Exempt":
        return bool(actual.get("type") == "Exempt")
    return actual == wanted


def with_dangling(schema: Object, levels: set[str], now: str) -> Object:
    """`schema` with its condition `Dangling`; the same object when it has it already."""
    name = level_name(schema)
    found = name in levels
    text = f'This FlowSchema references the PriorityLevelConfiguration object named "{name}" '
    condition = {
        "type": "Dangling",
        "status": "False" if found else "True",
        "reason": "Found" if found else "NotFound",
        "message": text + ("and it exists" if found else "but there is no such object"),
    }
    conditions = (schema.get("status") or {}).get("conditions") or []
    old = next((entry for entry in conditions if entry["type"] == "Dangling"), None)
    if old is not None and all(old.get(key) == value for key, value in condition.items()):
        return schema
    same = old is not None and old["status"] == condition["status"]
    condition["lastTransitionTime"] = old["lastTransitionTime"] if old is not None and same else now
    others = [entry for entry in conditions if entry is not old]
    return {**schema, "status": {**(schema.get("status") or {}), "conditions": [*others, condition]}}
