"""How fast nodes are emptied, by the state of their zone."""

from orchestrator.api.item import Item, encode
from orchestrator.controllers.zones import EVERY_S, EVERY_WHEN_PARTLY_DOWN_S, Zones


def _node(name: str, zone: str = "a") -> Item:
    labels = {"topology.kubernetes.io/zone": zone}
    metadata = {"name": name, "labels": labels, "uid": name}
    return Item(encode({"apiVersion": "v1", "kind": "Node", "metadata": metadata}), 1)


def _zones(up: int, down: int, others: int = 1) -> Zones:
    zones = Zones()
    for number in range(up + down):
        zones.note(_node(f"n{number}"), number >= down)
    for number in range(others):
        zones.note(_node(f"o{number}", "b"), True)
    return zones


def test_states_of_a_zone() -> None:
    states = {
        (3, 0): "normal",
        (1, 2): "normal",
        (3, 3): "normal",
        (2, 3): "partial",
        (0, 1): "full",
        (9, 11): "partial",
    }
    assert {counts: _zones(*counts).state(":a") for counts in states} == states


def test_one_node_after_the_other() -> None:
    zones = _zones(5, 3)
    assert zones.turn("n0", 100.0) == 0
    assert zones.turn("n1", 104.0) == EVERY_S - 4
    assert zones.turn("n1", 100.0 + EVERY_S) == 0
    assert zones.turn("n2", 100.0 + EVERY_S) == EVERY_S


def test_a_zone_that_is_partly_down_is_emptied_slowly_or_not_at_all() -> None:
    assert _zones(4, 6).turn("n0", 0.0) is None
    large = _zones(20, 40)
    assert (large.turn("n0", 0.0), large.turn("n1", 1.0)) == (0, EVERY_WHEN_PARTLY_DOWN_S - 1)
    assert _zones(0, 6).turn("n0", 0.0) == 0


def test_nobody_is_emptied_while_all_are_down() -> None:
    zones = _zones(0, 3, others=1)
    assert not zones.all_down
    assert zones.note(_node("o0", "b"), False) and zones.all_down
    assert not zones.note(_node("o0", "b"), False)
    assert zones.forget("o0") and zones.all_down
    assert zones.note(_node("n1"), True) and not zones.all_down
    assert not Zones().all_down
