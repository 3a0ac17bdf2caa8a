"""RuntimeClass: overhead, node selector and tolerations of a pod's class."""

import pytest

from orchestrator.admission.chain import AdmissionChain
from orchestrator.admission.runtime_class import RuntimeClass
from orchestrator.api.errors import Forbidden
from orchestrator.api.resources import PODS, RUNTIMECLASSES

FIXED = {"cpu": "250m", "memory": "120Mi"}
SANDBOXED = {
    "metadata": {"name": "sandboxed"},
    "handler": "runsc",
    "overhead": {"podFixed": FIXED},
    "scheduling": {
        "nodeSelector": {"sandbox": "yes"},
        "tolerations": [{"key": "sandbox", "operator": "Exists", "effect": "NoSchedule"}],
    },
}
PLAIN = {"metadata": {"name": "plain"}, "handler": "runc"}


def _pod(**spec):
    return {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [], **spec}}


@pytest.fixture
def admit(objects, request_for):
    objects.put(RUNTIMECLASSES, SANDBOXED)
    objects.put(RUNTIMECLASSES, PLAIN)
    chain = AdmissionChain((RuntimeClass(objects),))
    return lambda **spec: chain.admit(request_for("CREATE", PODS, _pod(**spec)))


async def test_a_pod_costs_and_goes_where_its_class_says(admit):
    own = {"key": "sandbox", "operator": "Equal", "value": "x", "effect": "NoSchedule"}
    other = {"key": "other", "operator": "Exists"}
    pod = await admit(runtimeClassName="sandboxed", nodeSelector={"disk": "ssd"}, tolerations=[own, other])
    assert pod["spec"]["overhead"] == FIXED
    assert pod["spec"]["nodeSelector"] == {"disk": "ssd", "sandbox": "yes"}
    # The class tolerates what the pod's own entry did, and more.
    assert pod["spec"]["tolerations"] == [other, SANDBOXED["scheduling"]["tolerations"][0]]


async def test_a_class_that_says_nothing_changes_nothing(admit):
    for name in ("plain", ""):
        pod = _pod(runtimeClassName=name)
        assert await admit(runtimeClassName=name) == pod


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"runtimeClassName": "gone"}, 'pods "p" is forbidden: pod rejected: RuntimeClass "gone" not found'),
        (
            {"runtimeClassName": "sandboxed", "overhead": {"cpu": "1"}},
            "doesn't match RuntimeClass's defined Overhead",
        ),
        (
            {"runtimeClassName": "plain", "overhead": {"cpu": "1"}},
            "Pod Overhead set without corresponding RuntimeClass",
        ),
        ({"overhead": {"cpu": "1"}}, "Pod Overhead set without corresponding RuntimeClass defined Overhead"),
        (
            {"runtimeClassName": "sandboxed", "nodeSelector": {"sandbox": "no"}},
            r"conflict: runtimeClass.scheduling.nodeSelector\[sandbox\] = yes; pod.spec.nodeSelector\[sandbox\] = no",
        ),
    ],
)
async def test_what_contradicts_the_class_is_refused(admit, spec, why):
    with pytest.raises(Forbidden, match=why):
        await admit(**spec)


SECONDS = {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
MERGES = [
    # of the pod, of the class, what remains
    ([SECONDS], [SECONDS], [SECONDS]),
    ([SECONDS], [{**SECONDS, "tolerationSeconds": 9}], [{**SECONDS, "tolerationSeconds": 9}]),
    ([{**SECONDS, "tolerationSeconds": 9}], [SECONDS], [{**SECONDS, "tolerationSeconds": 9}]),
    ([SECONDS], [{"operator": "Exists"}], [{"operator": "Exists"}]),
    (
        [{"key": "a", "operator": "Equal", "value": "b"}],
        [{"key": "a", "operator": "Equal", "value": "c"}],
        [{"key": "a", "operator": "Equal", "value": "b"}, {"key": "a", "operator": "Equal", "value": "c"}],
    ),
]


@pytest.mark.parametrize(("own", "of_class", "expected"), MERGES)
async def test_a_toleration_that_another_covers_is_left_out(objects, request_for, own, of_class, expected):
    objects.put(RUNTIMECLASSES, {**PLAIN, "scheduling": {"tolerations": of_class}})
    pod = _pod(runtimeClassName="plain", tolerations=own)
    admitted = await AdmissionChain((RuntimeClass(objects),)).admit(request_for("CREATE", PODS, pod))
    assert admitted["spec"]["tolerations"] == expected
