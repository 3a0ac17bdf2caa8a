import pytest

from orchestrator.scheduler.rules.infos import pod_place

MI = 2**20


def container(cpu="", memory="", **more):
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    return {"name": "c", "image": "i", "resources": {"requests": requests}, **more}


@pytest.mark.parametrize(
    ("spec", "requests"),
    [
        ({"containers": [container()]}, {"pods": 1}),
        ({"containers": [container("100m"), container("1", "1Mi")]}, {"cpu": 1100, "memory": MI, "pods": 1}),
        (
            {"containers": [container("1")], "initContainers": [container("3"), container("2", "2Mi")]},
            {"cpu": 3000, "memory": 2 * MI, "pods": 1},
        ),
        (  # a sidecar runs beside the containers, and beside later init containers
            {
                "containers": [container("1")],
                "initContainers": [container("500m", restartPolicy="Always"), container("2")],
            },
            {"cpu": 2500, "pods": 1},
        ),
        ({"containers": [container("1")], "overhead": {"cpu": "250m"}}, {"cpu": 1250, "pods": 1}),
        (
            {"containers": [container("1", "1Mi")], "resources": {"requests": {"cpu": "4"}}},
            {"cpu": 4000, "memory": MI, "pods": 1},
        ),
    ],
)
def test_what_a_pod_takes_from_its_node(pod, spec, requests):
    assert dict(pod(**spec).requests) == requests


def test_containers_without_requests_still_weigh_when_nodes_are_compared(pod):
    assert pod(containers=[container(), container("1", "1Mi")]).scored == (1100, 201 * MI)


def test_pods_of_one_template_share_a_signature_whatever_their_names(pod):
    template = {"nodeSelector": {"a": "b", "c": "d"}, "cpu": "1"}
    one, two = pod("one", **template), pod("two", **{**template, "nodeSelector": {"c": "d", "a": "b"}})
    assert one.signature == two.signature
    assert one.signature != pod("three", **{**template, "cpu": "2"}).signature


def test_the_place_of_a_pod_is_read_without_the_rest(item):
    assert pod_place(item(nodeName="n1", status={"phase": "Failed"})) == ("n1", True)
    assert pod_place(item()) == ("", False)


def test_nodes_are_equal_when_no_decision_could_differ(node):
    assert node("n") == node("n")
    assert node("n") != node("n", cpu="1")
    assert node("n", taints=[{"key": "a", "effect": "NoSchedule", "timeAdded": "now"}]) == node(
        "n", taints=[{"key": "a", "value": "", "effect": "NoSchedule"}]
    )
