import itertools

import pytest

from orchestrator.api.item import Item, encode
from orchestrator.controllers.statefulpods import (
    claim_owners,
    new_claims,
    place_of,
    waits_for_end,
    with_claims,
)

SET = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "s", "controller": True}
POD = {"apiVersion": "v1", "kind": "Pod", "name": "web-1", "uid": "p", "controller": True}
OTHER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}
_revisions = itertools.count(1)


def stateful_set(deleted="Retain", scaled="Retain"):
    claim = {
        "metadata": {"name": "data", "labels": {"tier": "db"}, "annotations": {"a": "b"}},
        "spec": {"x": 1},
    }
    spec = {
        "selector": {"matchLabels": {"app": "web"}},
        "volumeClaimTemplates": [claim],
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled},
    }
    return {"metadata": {"name": "web", "namespace": "ns", "uid": "s"}, "spec": spec}


def claim_item(*owners) -> Item:
    metadata = {"name": "data-web-1", "namespace": "ns", "uid": "c", "ownerReferences": list(owners)}
    return Item(encode({"metadata": metadata}), next(_revisions))


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("web-0", ("web", 0)), ("a-b-12", ("a-b", 12)), ("web", None), ("web-", None), ("-1", None), ("web-01", None),
        ("web-1x", None), ("web-٣", None),
    ],
)  # fmt: skip
def test_a_name_tells_the_place(name, place):
    assert place_of(name) == place


def uids(owners):
    return None if owners is None else [entry["uid"] for entry in owners[0]]


@pytest.mark.parametrize(
    ("deleted", "scaled", "away", "owners", "expected"),
    [
        ("Retain", "Retain", False, [], None),
        ("Retain", "Retain", False, [SET], []),
        ("Retain", "Retain", True, [POD], []),
        ("Delete", "Retain", False, [], ["s"]),
        ("Delete", "Retain", True, [SET], None),
        ("Retain", "Delete", False, [], None),
        ("Retain", "Delete", True, [], ["p"]),
        ("Retain", "Delete", False, [POD], []),
        ("Delete", "Delete", False, [], ["s"]),
        ("Delete", "Delete", True, [SET], ["p"]),
        ("Delete", "Delete", True, [POD], None),
        ("Delete", "Retain", False, [OTHER], ["x", "s"]),
        ("Delete", "Retain", False, [{**OTHER, "controller": True}], None),
        ("Delete", "Retain", False, [{**OTHER, "controller": True}, SET], ["x"]),
        ("Delete", "Retain", False, [{**SET, "controller": False}], ["s"]),
        ("Delete", "Retain", False, [{**SET, "uid": "earlier"}], None),
        ("Delete", "Delete", True, [{**POD, "uid": "earlier"}], None),
    ],
)
def test_claims_are_owned_as_the_retention_policy_says(deleted, scaled, away, owners, expected):
    found = claim_owners(stateful_set(deleted, scaled), "web-1", "p", claim_item(*owners), away=away)
    assert uids(found) == expected


def test_a_claim_that_goes_with_an_earlier_pod_is_waited_for():
    assert waits_for_end(stateful_set(scaled="Delete"), "web-1", claim_item(POD))
    assert not waits_for_end(stateful_set(), "web-1", claim_item(POD))
    assert not waits_for_end(stateful_set(scaled="Delete"), "web-1", claim_item(SET))


def test_claims_repeat_their_template_and_replace_volumes_of_their_name():
    claim = new_claims(stateful_set(deleted="Delete"), 1)[0]
    owner = claim["metadata"].pop("ownerReferences")[0]
    assert claim["metadata"] == {
        "name": "data-web-1", "namespace": "ns", "annotations": {"a": "b"}, "labels": {"tier": "db", "app": "web"},
    }  # fmt: skip
    assert (claim["spec"], owner["uid"]) == ({"x": 1}, "s")
    volumes = with_claims(
        stateful_set(), 1, [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    )
    assert volumes == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-1"}}, {"name": "tmp", "emptyDir": {}},
    ]  # fmt: skip
