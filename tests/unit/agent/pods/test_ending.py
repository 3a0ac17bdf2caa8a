"""Pods that the node ends by itself: what stops, what the status says, and who is not let in."""

from orchestrator.agent.pods.admitting import Rejection
from orchestrator.agent.pods.ending import Ending
from orchestrator.api.item import Object
from tests.unit.agent.conftest import World, container

EVICTED = Ending(
    "Evicted", "The node was low on resource: memory. ", 0, "The node was low on resource: memory. "
)


def disruption(status: Object) -> Object:
    return next((c for c in status.get("conditions") or () if c["type"] == "DisruptionTarget"), {})


async def test_an_ended_pod_fails_with_the_reason_and_stays_for_its_owner(world: World) -> None:
    agent = await world.agent()
    pod = await world.create("web", container("app"))
    await world.until(lambda: world.ready("web"))
    assert agent.manager is not None
    worker = agent.manager.worker(pod["metadata"]["uid"])
    assert worker is not None
    worker.end(EVICTED)
    worker.end(Ending("Other", "comes too late"))

    async def failed() -> bool:
        return bool((await world.status("web")).get("phase") == "Failed")

    await world.pass_until(failed)
    status = await world.status("web")
    assert (status["reason"], status["message"]) == ("Evicted", EVICTED.message)
    assert disruption(status)["reason"] == "TerminationByKubelet"
    assert not any(c.state == "running" for c in world.containers(pod))
    await world.calm()
    assert disruption(await world.status("web")) == disruption(status), "the time of the change stays"
    await world.delete("web")
    await world.pass_until(lambda: world.gone("web"))
    assert world.empty()


async def test_a_pod_that_somebody_refuses_never_starts(world: World) -> None:
    agent = await world.agent()
    assert agent.manager is not None
    agent.manager._context.admission.append(
        lambda pod: Rejection("Evicted", "The node had condition: [DiskPressure]. ")
    )
    pod = await world.create("web")

    async def failed() -> bool:
        return bool((await world.status("web")).get("phase") == "Failed")

    await world.pass_until(failed)
    status = await world.status("web")
    assert status["reason"] == "Evicted"
    assert status["message"] == "Pod was rejected: The node had condition: [DiskPressure]. "
    assert world.containers(pod) == []
