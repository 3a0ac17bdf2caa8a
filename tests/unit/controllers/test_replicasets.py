import pytest

from orchestrator.api.item import Object
from orchestrator.controllers.replicasets import (
    HISTORY_MAX,
    Family,
    find_new,
    new_set,
    set_writes,
    surplus_history,
)
from orchestrator.controllers.rollout import DESIRED, MAXIMUM, REVISION, REVISION_HISTORY, bounds
from orchestrator.controllers.templates import same_template


def template(image: str = "one", **spec) -> Object:
    containers = [{"name": "main", "image": image}]
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers, **spec}}


def deployment(**spec) -> Object:
    selector = {"matchLabels": {"app": "web"}}
    base = {"replicas": 2, "selector": selector, "template": template(), "revisionHistoryLimit": 1}
    metadata = {
        "name": "web",
        "namespace": "default",
        "uid": "d",
        "generation": 1,
        "annotations": {"team": "a"},
    }
    return {"metadata": metadata, "spec": {**base, **spec}}


def family(owner: Object, new: Object | None, *old: Object) -> Family:
    return Family(owner, bounds(owner), new, list(old), {})


def replica_set(name: str, image: str, replicas: int = 0, day: int = 1, **annotations: str) -> Object:
    meta = {
        "name": name,
        "creationTimestamp": f"2024-01-{day:02}T00:00:00Z",
        "generation": 1,
        "annotations": annotations,
    }
    status = {"replicas": replicas, "observedGeneration": 1}
    return {"metadata": meta, "spec": {"replicas": replicas, "template": template(image)}, "status": status}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, {"volumes": []}, True),
        ({}, {"nodeSelector": {}}, True),
        ({}, {"volumes": None}, True),
        ({}, {"securityContext": {}}, False),
        ({"volumes": []}, {"volumes": [{"name": "v"}]}, False),
        ({"volumes": [{"name": "v", "emptyDir": {}}]}, {"volumes": [{"name": "v"}]}, False),
        ({"nodeSelector": {"a": "1"}}, {"nodeSelector": {}}, False),
    ],
)
def test_templates_are_the_same_when_one_says_nothing_more(one, other, same):
    assert same_template(template(**one), template(**other)) == same


def test_the_hash_label_of_a_set_does_not_make_its_template_another():
    owner = deployment()
    made = new_set(family(owner, None), 2)
    assert made["spec"]["template"]["metadata"]["labels"].keys() == {"app", "pod-template-hash"}
    assert made["spec"]["selector"]["matchLabels"] == made["metadata"]["labels"]
    young = {
        **made,
        "metadata": {**made["metadata"], "name": "twin", "creationTimestamp": "2024-01-02T00:00:00Z"},
    }
    old = {**made, "metadata": {**made["metadata"], "creationTimestamp": "2024-01-01T00:00:00Z"}}
    assert find_new(owner, [young, old]) is old


def test_a_set_that_is_new_again_gets_the_highest_revision_and_keeps_a_bounded_history():
    long = ",".join(["123456789"] * 200)
    again = replica_set("a", "one", 2, **{REVISION: "1", REVISION_HISTORY: long, DESIRED: "2", MAXIMUM: "3"})
    other = replica_set("b", "two", 0, **{REVISION: "7"})
    (write,) = set_writes(family(deployment(), again, other), {})
    annotations = write.new["metadata"]["annotations"]
    assert (annotations[REVISION], annotations["team"]) == ("8", "a")
    assert len(annotations[REVISION_HISTORY]) <= HISTORY_MAX
    assert annotations[REVISION_HISTORY].endswith("123456789,1")


def test_annotations_that_somebody_spoiled_are_put_right_once():
    spoiled = replica_set("a", "one", 2, **{REVISION: "x", DESIRED: "9"})
    (write,) = set_writes(family(deployment(), spoiled), {})
    assert write.new["metadata"]["annotations"].items() >= {DESIRED: "2", REVISION: "1"}.items()
    assert set_writes(family(deployment(), write.new), {}) == []


@pytest.mark.parametrize(
    ("limit", "gone"),
    [(0, ["c", "a", "b"]), (1, ["c", "a"]), (2, ["c"]), (3, []), (2**31 - 1, [])],
)
def test_the_lowest_revisions_go_first_and_of_one_revision_the_oldest(limit, gone):
    sets = [
        replica_set("a", "1", day=2, **{REVISION: "3"}),
        replica_set("b", "2", day=3, **{REVISION: "3"}),
        replica_set("c", "3", day=9, **{REVISION: "1"}),
    ]
    found = surplus_history(deployment(revisionHistoryLimit=limit), sets)
    assert [s["metadata"]["name"] for s in found] == gone


def test_a_set_with_pods_or_not_yet_observed_is_no_history():
    busy = replica_set("a", "1", 1, **{REVISION: "1"})
    unseen = replica_set("b", "2", **{REVISION: "2"})
    unseen["status"]["observedGeneration"] = 0
    assert surplus_history(deployment(revisionHistoryLimit=0), [busy, unseen]) == []
