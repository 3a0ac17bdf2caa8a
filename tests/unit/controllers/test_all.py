from orchestrator.api.resources import PODS
from orchestrator.controllers.all import build, graph


def _unsigned(request, usages, life_s):
    raise ValueError("there is no authority")


def _token(namespace, name, uid, secret):
    return f"token of {namespace}/{name} in {secret}"


def test_every_controller_declares_what_it_does_under_a_name_of_its_own(cluster):
    parts = (cluster.client, cluster.clock, cluster.recorder, cluster.table)
    controllers = build(*parts, ca_pem="PEM", pod_cidr="10.42.0.0/16", sign=_unsigned, issue=_token)
    names = [controller.name for controller in controllers]
    assert len(set(names)) == len(names) > 12
    assert all(controller.watches and controller.writes for controller in controllers)
    text = graph(controllers)
    assert len(text.splitlines()) == len(names)
    line = next(line for line in text.splitlines() if "→ replicaset " in line)
    assert [part.strip() for part in line.split("→")] == [
        "replicasets, pods",
        "replicaset",
        "pods, replicasets",
    ]


async def test_all_together_run_a_deployment_and_then_write_nothing(cluster):
    parts = (cluster.client, cluster.clock, cluster.recorder, cluster.table)
    await cluster.node("n1")
    await cluster.start(*build(*parts, ca_pem="PEM", pod_cidr="10.42.0.0/16", sign=_unsigned, issue=_token))
    await cluster.deployment(replicas=4)
    await cluster.settle()
    assert len(await cluster.list(PODS)) == 4
    assert await cluster.is_at_rest(36.0)
