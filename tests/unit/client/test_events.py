"""Events: counted, combined, limited; never in the way of who reports them."""

from collections.abc import AsyncIterator

import pytest

from orchestrator.api.errors import Forbidden, NotFound, ServiceUnavailable
from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.events import BURST, COMBINED, PENDING_MAX, SIMILAR_MAX, EventRecorder

POD = {
    "kind": "Pod", "apiVersion": "v1",
    "metadata": {"name": "web", "namespace": "team", "uid": "u1", "resourceVersion": "7"},
}  # fmt: skip


class Events:
    """The part of a client that a recorder uses: keeps events, and refuses when told to."""

    def __init__(self) -> None:
        self.objects = {}
        self.errors = []

    async def create(self, resource, obj, namespace=""):
        if self.errors:
            raise self.errors.pop(0)
        assert obj["metadata"]["name"] not in self.objects
        self.objects[obj["metadata"]["name"]] = obj
        return obj

    async def patch(self, resource, name, namespace, patch):
        if name not in self.objects:
            raise NotFound(name)
        self.objects[name] = {**self.objects[name], **patch}

    @property
    def brief(self):
        return [(obj["reason"], obj["message"], obj["count"]) for obj in self.objects.values()]


class World:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.api = Events()
        self.recorder = EventRecorder(self.api, "kubelet", "n1", self.clock)  # type: ignore[arg-type]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    supervisor = Supervisor("test", world.clock)
    supervisor.serve("events", world.recorder.run)
    yield world
    await supervisor.stop()


async def test_an_event_says_what_happened_to_whom(world):
    world.recorder.event(POD, "Normal", "Pulled", "image pulled", "spec.containers{a}")
    await world.clock.advance(0)
    (event,) = world.api.objects.values()
    assert event["metadata"]["namespace"] == "team"
    assert event["metadata"]["name"].startswith("web.")
    assert event["involvedObject"] == {
        "kind": "Pod", "namespace": "team", "name": "web", "uid": "u1", "apiVersion": "v1",
        "resourceVersion": "7", "fieldPath": "spec.containers{a}",
    }  # fmt: skip
    assert event["source"] == {"component": "kubelet", "host": "n1"}
    assert (event["type"], event["reason"], event["message"]) == ("Normal", "Pulled", "image pulled")
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2023-11-14T22:13:20Z"


async def test_the_same_event_again_raises_the_count(world):
    for _ in range(3):
        world.recorder.event(POD, "Warning", "BackOff", "restarting")
    await world.clock.advance(10)
    world.recorder.event(POD, "Warning", "BackOff", "restarting")
    await world.clock.advance(0)
    assert world.api.brief == [("BackOff", "restarting", 4)]
    (event,) = world.api.objects.values()
    assert event["lastTimestamp"] == "2023-11-14T22:13:30Z"


async def test_an_event_that_expired_is_made_anew(world):
    world.recorder.event(POD, "Normal", "Pulled", "m")
    await world.clock.advance(0)
    world.api.objects.clear()
    world.recorder.event(POD, "Normal", "Pulled", "m")
    await world.clock.advance(0)
    assert world.api.brief == [("Pulled", "m", 1)]


async def test_many_similar_events_become_one(world):
    for n in range(SIMILAR_MAX + 5):
        world.recorder.event(POD, "Warning", "Failed", f"try {n}")
    await world.clock.advance(0)
    brief = world.api.brief
    assert len(brief) == SIMILAR_MAX
    assert brief[-1] == ("Failed", f"{COMBINED}: try {SIMILAR_MAX + 4}", 6)


async def test_all_containers_of_a_pod_share_its_limit(world):
    for n in range(BURST + 20):
        world.recorder.event(POD, "Normal", f"Reason{n}", "m", f"spec.containers{{c{n % 3}}}")
    await world.clock.advance(0)
    assert len(world.api.objects) == BURST


async def test_an_object_that_says_too_much_is_limited_and_others_are_not(world):
    for n in range(BURST + 20):
        world.recorder.event(POD, "Normal", f"Reason{n}", "m")
    world.recorder.event({**POD, "metadata": {**POD["metadata"], "uid": "u2"}}, "Normal", "Other", "m")
    await world.clock.advance(0)
    assert len(world.api.objects) == BURST + 1
    assert world.recorder.lost == 20


async def test_a_cluster_scoped_object_has_its_events_in_default(world):
    world.recorder.event({"kind": "Node", "metadata": {"name": "n1", "uid": "n1"}}, "Normal", "Ready", "m")
    await world.clock.advance(0)
    (event,) = world.api.objects.values()
    assert event["metadata"]["namespace"] == "default"


async def test_events_wait_for_a_server_that_is_away(world):
    world.api.errors = [ServiceUnavailable("away"), ServiceUnavailable("away")]
    world.recorder.event(POD, "Normal", "Pulled", "m")
    await world.clock.advance(4)
    assert world.api.objects == {}
    await world.clock.advance(10)
    assert world.api.brief == [("Pulled", "m", 1)]


async def test_a_refused_event_is_lost_and_the_next_is_written(world):
    world.api.errors = [Forbidden("no"), ValueError("bug")]
    for reason in ("A", "B", "C"):
        world.recorder.event(POD, "Normal", reason, "m")
    await world.clock.advance(0)
    assert world.api.brief == [("C", "m", 1)]
    assert world.recorder.lost == 2


async def test_a_full_buffer_loses_events_and_does_not_raise():
    recorder = EventRecorder(Events(), "test", "", VirtualClock())  # type: ignore[arg-type]
    for n in range(PENDING_MAX + 10):
        recorder.event({"kind": "Pod", "metadata": {"name": f"p{n}"}}, "Normal", "A", "m")
    recorder.event({}, "Normal", "A", "m")
    assert recorder.lost == 11
